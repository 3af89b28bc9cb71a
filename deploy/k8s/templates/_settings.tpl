{{/* Settings of one service, name to value, without secrets. */}}
{{- define "seckill.runtime.settings" -}}
{{- $service := get (include "seckill.services" .root | fromYaml) .component -}}
{{- $settings := dict "profile" "production" -}}
{{- $_ := set $settings "drain_timeout_s" .root.Values.drain.timeoutSeconds -}}
{{- $_ := set $settings (printf "%s_listen" .component) (printf "0.0.0.0:%v" $service.port) -}}
{{- $_ := set $settings (printf "%s_metrics_listen" .component) (printf "0.0.0.0:%v" $service.metricsPort) -}}
{{- range $service.calls -}}
{{- $_ := set $settings (printf "%s_target" .) (include "seckill.target" (dict "root" $.root "component" .)) -}}
{{- end -}}
{{- with .root.Values.kafka -}}
{{- if has "kafka" $service.stores -}}
{{- $_ := set $settings "kafka_bootstrap" .bootstrap -}}
{{- $_ := set $settings "orders_topic" .ordersTopic -}}
{{- $_ := set $settings "dead_letter_topic" .deadLetterTopic -}}
{{- end -}}
{{- if eq $.component "order" -}}
{{- $_ := set $settings "order_events_topic" .orderEventsTopic -}}
{{- end -}}
{{- end -}}
{{- $settings = mergeOverwrite $settings (include "seckill.meshSettings" . | fromYaml) -}}
{{- $jwks := include "seckill.jwks" . | fromYaml -}}
{{- $file := printf "%s/jwks.json" (include "seckill.keysFolder" .) -}}
{{- $trial := .root.Values.trialIdentity.enabled -}}
{{- if eq .component "gateway" -}}
{{- $jwt := .root.Values.gateway.jwt -}}
{{- $_ := set $settings "gateway_jwks" (default $file $jwks.url) -}}
{{- $_ := set $settings "gateway_jwt_issuer" (ternary (include "seckill.trialIssuer" .) $jwt.issuer $trial) -}}
{{- $_ := set $settings "gateway_jwt_audience" $jwt.audience -}}
{{- end -}}
{{- if and (eq .component "order") $jwks -}}
{{- $settings = merge $settings (include "seckill.operatorSettings" .root | fromYaml) -}}
{{- end -}}
{{- $own := get (get .root.Values .component) "settings" -}}
{{- include "seckill.variables" (mergeOverwrite $settings (deepCopy .root.Values.settings) (deepCopy $own)) }}
{{- end }}

{{/* Who is an operator, for the order service and the operators' listener, as YAML. */}}
{{- define "seckill.operatorSettings" -}}
{{- $jwks := include "seckill.jwks" (dict "root" . "component" "order") | fromYaml -}}
{{- $jwt := .Values.order.operators.jwt -}}
order_operator_jwks: {{ default (printf "%s/jwks.json" (include "seckill.keysFolder" .)) $jwks.url | quote }}
order_operator_jwt_issuer: {{ ternary (include "seckill.trialIssuer" .) $jwt.issuer .Values.trialIdentity.enabled | quote }}
order_operator_jwt_audience: {{ $jwt.audience | quote }}
{{- end }}

{{/* Settings as environment variables. */}}
{{- define "seckill.variables" -}}
{{- range $name, $value := . }}
SECKILL_{{ upper $name }}: {{ include "seckill.scalar" $value | quote }}
{{- end }}
{{- end }}

{{/* Helm reads every number as a float, and would print a million as 1e+06. */}}
{{- define "seckill.scalar" -}}
{{- if and (kindIs "float64" .) (eq . (floor .)) }}{{ int64 . }}{{ else }}{{ . }}{{ end -}}
{{- end }}

{{/* One environment variable from a Secret. */}}
{{- define "seckill.secretEnv" -}}
- name: {{ .variable }}
  valueFrom:
    secretKeyRef:
      name: {{ .secret.name }}
      key: {{ .secret.key }}
{{- end }}

{{/* The Secrets that a component reads as variables: variable to name and key. */}}
{{- define "seckill.secrets" -}}
{{- $service := get (include "seckill.services" .root | fromYaml) .component -}}
{{- $secrets := dict -}}
{{- with .root.Values -}}
{{- if has "redis" $service.stores -}}
{{- $own := (get . $.component).redis.existingSecret -}}
{{- $_ := set $secrets "SECKILL_REDIS_URL" (ternary $own .redis.existingSecret (ne $own.name "")) -}}
{{- end -}}
{{- if has "postgres" $service.stores }}{{ $_ := set $secrets "SECKILL_POSTGRES_DSN" .postgres.existingSecret }}{{ end -}}
{{- if eq $.component "gateway" -}}
{{- $_ := set $secrets "SECKILL_GATEWAY_TOKEN_KEYS" (include "seckill.tokenKeys" $.root | fromYaml) -}}
{{- with .gateway.sharedBuckets -}}
{{- if .enabled -}}
{{- $_ := set $secrets "SECKILL_GATEWAY_REDIS_URL" (ternary .existingSecret $.root.Values.redis.existingSecret (ne .existingSecret.name "")) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and (eq $.component "order") .order.webhooks.existingSecret.name -}}
{{- $_ := set $secrets "SECKILL_ORDER_WEBHOOK_ENDPOINTS" .order.webhooks.existingSecret -}}
{{- end -}}
{{- end -}}
{{- toJson $secrets }}
{{- end }}

{{- define "seckill.env" -}}
{{- range $variable, $secret := include "seckill.secrets" . | fromJson }}
{{ include "seckill.secretEnv" (dict "variable" $variable "secret" $secret) }}
{{- end }}
{{- with include "seckill.field" (merge (dict "field" "extraEnv") .) }}
{{ . }}
{{- end }}
{{- end }}

{{/* A digest of the Secrets that a component reads when it starts, if they can be looked up: pods
are replaced by the upgrade after they changed. Not of the chart's own Secret, which never does. */}}
{{- define "seckill.secretsDigest" -}}
{{- $found := list -}}
{{- range $variable, $secret := include "seckill.secrets" . | fromJson -}}
{{- with lookup "v1" "Secret" (include "seckill.namespace" $.root) $secret.name -}}
{{- if ne $secret.name (include "seckill.trialSecret" $.root) -}}
{{- $found = append $found (printf "%s=%s" $variable (get .data $secret.key)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- with $found }}{{ toJson . | sha256sum }}{{ end -}}
{{- end }}
