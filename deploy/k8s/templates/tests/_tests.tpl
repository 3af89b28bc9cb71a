{{/* Metadata of a pod of `helm test`. Takes root and suffix. */}}
{{- define "seckill.testMetadata" -}}
{{- $hooks := dict "helm.sh/hook" "test" "helm.sh/hook-delete-policy" "before-hook-creation,hook-succeeded" -}}
{{- include "seckill.metadata" (merge (dict "component" "test" "annotations" $hooks) .) }}
{{- end }}

{{/* A container of `helm test`. */}}
{{- define "seckill.testContainer" -}}
image: {{ include "seckill.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  {{- toYaml .Values.containerSecurityContext | nindent 2 }}
resources:
  requests: {cpu: 50m, memory: 64Mi}
  limits: {memory: 192Mi}
{{- end }}

{{/* Whether `helm test` can buy: "true" or nothing. */}}
{{- define "seckill.testBuys" -}}
{{- with .Values.tests.purchase -}}
{{- $certificates := $.Values.meshTls.certificates.enabled -}}
{{- $admitted := or (not $.Values.meshTls.enabled) $certificates $.Values.meshTls.existingSecrets.operator -}}
{{- if and .enabled $admitted (or $.Values.trialIdentity.enabled .identity.existingSecret.name) -}}true{{- end -}}
{{- end -}}
{{- end }}

{{/* Where `helm test` buys: at the edge if it speaks plaintext, else at the gateway, by the Service that
balances if there is one. With TLS between services at the gateway, by the name in its certificate. */}}
{{- define "seckill.testGateway" -}}
{{- if .Values.meshTls.enabled -}}
{{ include "seckill.target" (dict "root" . "component" "gateway") }}
{{- else if and .Values.edge.enabled (not (include "seckill.edgeTlsSecret" .)) -}}
dns:///{{ include "seckill.address" (dict "root" . "suffix" "edge" "port" (include "seckill.edgePort" .)) }}
{{- else if .Values.gateway.clusterIP.enabled -}}
dns:///{{ include "seckill.address" (dict "root" . "suffix" "gateway-vip" "port" .Values.gateway.clusterIP.port) }}
{{- else -}}
{{ include "seckill.target" (dict "root" . "component" "gateway") }}
{{- end -}}
{{- end }}
