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
{{- if has "kafka" $service.stores -}}
{{- $_ := set $settings "kafka_bootstrap" .root.Values.kafka.bootstrap -}}
{{- $_ := set $settings "orders_topic" .root.Values.kafka.ordersTopic -}}
{{- $_ := set $settings "dead_letter_topic" .root.Values.kafka.deadLetterTopic -}}
{{- end -}}
{{- if eq .component "gateway" -}}
{{- with .root.Values.gateway -}}
{{- $_ := set $settings "gateway_jwks" (default "/etc/seckill/jwks.json" .jwks.url) -}}
{{- $_ := set $settings "gateway_jwt_issuer" .jwt.issuer -}}
{{- $_ := set $settings "gateway_jwt_audience" .jwt.audience -}}
{{- end -}}
{{- end -}}
{{- if and (eq .component "order") (include "seckill.jwks" .) -}}
{{- with .root.Values.order.operators -}}
{{- $_ := set $settings "order_operator_jwks" (default "/etc/seckill/jwks.json" .jwks.url) -}}
{{- $_ := set $settings "order_operator_jwt_issuer" (required "order.operators.jwt.issuer is required with order.operators.jwks" .jwt.issuer) -}}
{{- $_ := set $settings "order_operator_jwt_audience" .jwt.audience -}}
{{- end -}}
{{- end -}}
{{- $own := get (get .root.Values .component) "settings" -}}
{{- range $name, $value := mergeOverwrite $settings (deepCopy .root.Values.settings) (deepCopy $own) }}
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

{{- define "seckill.env" -}}
{{- $service := get (include "seckill.services" .root | fromYaml) .component -}}
{{- with .root.Values -}}
{{- if has "redis" $service.stores }}
{{ include "seckill.secretEnv" (dict "variable" "SECKILL_REDIS_URL" "secret" .redis.existingSecret) }}
{{- end }}
{{- if has "postgres" $service.stores }}
{{ include "seckill.secretEnv" (dict "variable" "SECKILL_POSTGRES_DSN" "secret" .postgres.existingSecret) }}
{{- end }}
{{- if eq $.component "gateway" }}
{{ include "seckill.secretEnv" (dict "variable" "SECKILL_GATEWAY_TOKEN_KEYS" "secret" .gateway.tokenKeys.existingSecret) }}
{{- with .gateway.sharedBuckets }}
{{- if .enabled }}
{{ include "seckill.secretEnv" (dict "variable" "SECKILL_GATEWAY_REDIS_URL" "secret" (ternary .existingSecret $.root.Values.redis.existingSecret (ne .existingSecret.name ""))) }}
{{- end }}
{{- end }}
{{- end }}
{{- if and (eq $.component "order") .order.webhooks.existingSecret.name }}
{{ include "seckill.secretEnv" (dict "variable" "SECKILL_ORDER_WEBHOOK_ENDPOINTS" "secret" .order.webhooks.existingSecret) }}
{{- end }}
{{- with get (get . $.component) "extraEnv" }}
{{ toYaml . }}
{{- end }}
{{- end }}
{{- end }}

{{/* Liveness asks only whether the process runs; readiness asks for its stores too. */}}
{{- define "seckill.probes" -}}
startupProbe:
  grpc: {port: {{ .port }}, service: live}
  periodSeconds: 2
  failureThreshold: 30
livenessProbe:
  grpc: {port: {{ .port }}, service: live}
  periodSeconds: 10
  timeoutSeconds: 3
  failureThreshold: 3
readinessProbe:
  grpc: {port: {{ .port }}}
  periodSeconds: 5
  timeoutSeconds: 2
  failureThreshold: 2
{{- end }}

{{/* Where a component's JWKS is, as YAML; nothing if it needs none. Takes (dict "root" $ "component" "order"). */}}
{{- define "seckill.jwks" -}}
{{- if eq .component "gateway" -}}
{{ toYaml .root.Values.gateway.jwks }}
{{- else if eq .component "order" -}}
{{- with .root.Values.order.operators.jwks -}}
{{- if or .url .existingConfigMap.name .existingSecret.name -}}
{{ toYaml . }}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* Whether a component reads its JWKS from a volume: "true" or nothing. */}}
{{- define "seckill.jwksMounted" -}}
{{- with include "seckill.jwks" . | fromYaml -}}
{{- if not .url -}}true{{- end -}}
{{- end -}}
{{- end }}

{{/* The volume of a component's JWKS. */}}
{{- define "seckill.jwksVolume" -}}
- name: jwks
  {{- with .existingConfigMap }}
  {{- if .name }}
  configMap:
    name: {{ .name }}
    items: [{key: {{ .key | quote }}, path: jwks.json}]
  {{- else }}
  secret:
    secretName: {{ $.existingSecret.name }}
    items: [{key: {{ $.existingSecret.key | quote }}, path: jwks.json}]
  {{- end }}
  {{- end }}
{{- end }}

{{- define "seckill.container" -}}
image: {{ include "seckill.image" .root }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
args: [{{ .service.module }}]
ports:
  - {name: grpc, containerPort: {{ .service.port }}}
  - {name: metrics, containerPort: {{ .service.metricsPort }}}
envFrom:
  - configMapRef:
      name: {{ include "seckill.fullname" .root }}-{{ .component }}
{{- with include "seckill.env" . | trim }}
env:
  {{- . | nindent 2 }}
{{- end }}
{{ include "seckill.probes" .service }}
lifecycle:
  preStop:
    sleep: {seconds: {{ .root.Values.drain.preStopSeconds }}}
securityContext:
  {{- toYaml .root.Values.containerSecurityContext | nindent 2 }}
resources:
  {{- toYaml (get .root.Values .component).resources | nindent 2 }}
volumeMounts:
  - {name: tmp, mountPath: /tmp}
{{- if include "seckill.jwksMounted" . }}
  - {name: jwks, mountPath: /etc/seckill, readOnly: true}
{{- end }}
{{- end }}

{{- define "seckill.scheduling" -}}
{{- $values := get .root.Values .component -}}
topologySpreadConstraints:
  {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    # Counts each revision by itself, else a rollout ends lopsided.
    matchLabelKeys: [pod-template-hash]
    labelSelector:
      matchLabels:
        {{- include "seckill.selectorLabels" $ | nindent 8 }}
  {{- end }}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- range $field := list "nodeSelector" "tolerations" "affinity" }}
{{- with get $values $field }}
{{ $field }}:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- end }}
