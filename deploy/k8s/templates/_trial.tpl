{{/* The Secret of keys that the chart makes for trying. */}}
{{- define "seckill.trialSecret" -}}
{{ include "seckill.fullname" . }}-trial
{{- end }}

{{/* Issuer of identities for development (seckill/runtime/dev_issuer.py). */}}
{{- define "seckill.trialIssuer" -}}https://issuer.seckill.localhost{{- end }}

{{/* Where containers find the keys that they verify identities with. */}}
{{- define "seckill.keysFolder" -}}/etc/seckill{{- end }}

{{/* Where a component's JWKS is, as YAML; nothing if it needs none. Takes (dict "root" $ "component" "order"). */}}
{{- define "seckill.jwks" -}}
{{- if has .component (list "gateway" "order") -}}
{{- $jwks := .root.Values.gateway.jwks -}}
{{- if eq .component "order" }}{{ $jwks = .root.Values.order.operators.jwks }}{{ end -}}
{{- $named := or $jwks.url $jwks.existingConfigMap.name $jwks.existingSecret.name -}}
{{- if .root.Values.trialIdentity.enabled -}}
existingSecret: {name: {{ include "seckill.trialSecret" .root }}, key: jwks.json}
{{- else if $named -}}
{{ toYaml $jwks }}
{{- end -}}
{{- end -}}
{{- end }}

{{/* Whether a component reads its JWKS from a volume: "true" or nothing. */}}
{{- define "seckill.jwksMounted" -}}
{{- with include "seckill.jwks" . | fromYaml -}}
{{- if not .url -}}true{{- end -}}
{{- end -}}
{{- end }}

{{/* The volume of a component's JWKS; for trying, with the keys of the development issuer. */}}
{{- define "seckill.jwksVolume" -}}
{{- $jwks := include "seckill.jwks" . | fromYaml -}}
- name: jwks
  {{- if .root.Values.trialIdentity.enabled }}
  secret:
    secretName: {{ $jwks.existingSecret.name }}
  {{- else if (default dict $jwks.existingConfigMap).name }}
  configMap:
    name: {{ $jwks.existingConfigMap.name }}
    items: [{key: {{ $jwks.existingConfigMap.key | quote }}, path: jwks.json}]
  {{- else }}
  secret:
    secretName: {{ $jwks.existingSecret.name }}
    items: [{key: {{ $jwks.existingSecret.key | quote }}, path: jwks.json}]
  {{- end }}
{{- end }}

{{/* The Secret of the keys that sign purchase tokens. */}}
{{- define "seckill.tokenKeys" -}}
{{- if .Values.trialIdentity.enabled -}}
name: {{ include "seckill.trialSecret" . }}
key: purchase-token-keys
{{- else -}}
{{ toYaml .Values.gateway.tokenKeys.existingSecret }}
{{- end -}}
{{- end }}
