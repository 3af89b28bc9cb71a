{{/* Ports of the edge: for the public, Envoy's own, the agent's metrics. */}}
{{- define "seckill.edgePorts" -}}
{public: 8080, stats: 9106, metrics: 9105}
{{- end }}

{{/* Where Envoy and the agent share files, and where certificates are. */}}
{{- define "seckill.edgeFolder" -}}/run/seckill-edge{{- end }}
{{- define "seckill.edgeCertificates" -}}/etc/seckill/tls{{- end }}
{{- define "seckill.edgeAuthority" -}}/etc/seckill/clients{{- end }}

{{/* Settings of the edge, name to value; the edge's own win. */}}
{{- define "seckill.edgeSettings" -}}
{{- $ports := include "seckill.edgePorts" . | fromYaml -}}
{{- $settings := dict "profile" "production" "drain_timeout_s" .Values.drain.timeoutSeconds -}}
{{- $_ := set $settings "edge_listen" (printf "0.0.0.0:%v" $ports.public) -}}
{{- $_ := set $settings "edge_stats_listen" (printf "0.0.0.0:%v" $ports.stats) -}}
{{- $_ := set $settings "edge_metrics_listen" (printf "0.0.0.0:%v" $ports.metrics) -}}
{{- $_ := set $settings "edge_directory" (include "seckill.edgeFolder" .) -}}
{{- range list "gateway" "inventory" -}}
{{- $_ := set $settings (printf "%s_target" .) (include "seckill.target" (dict "root" $ "component" .)) -}}
{{- end -}}
{{- with .Values.edge.tls -}}
{{- if .existingSecret -}}
{{- $_ := set $settings "edge_tls" "required" -}}
{{- $_ := set $settings "edge_tls_certificate" (printf "%s/tls.crt" (include "seckill.edgeCertificates" $)) -}}
{{- $_ := set $settings "edge_tls_key" (printf "%s/tls.key" (include "seckill.edgeCertificates" $)) -}}
{{- end -}}
{{- if .clientAuthority.existingSecret -}}
{{- $_ := set $settings "edge_client_certificates" (ternary "required" "optional" .clientAuthority.required) -}}
{{- $_ := set $settings "edge_client_ca" (printf "%s/ca.crt" (include "seckill.edgeAuthority" $)) -}}
{{- end -}}
{{- end -}}
{{- range $name, $value := mergeOverwrite $settings (deepCopy .Values.settings) (deepCopy .Values.edge.settings) }}
SECKILL_{{ upper $name }}: {{ include "seckill.scalar" $value | quote }}
{{- end }}
{{- end }}

{{/* The volumes that Envoy and the agent share, and those with certificates. */}}
{{- define "seckill.edgeVolumes" -}}
- name: tmp
  emptyDir: {sizeLimit: 64Mi}
- name: edge
  emptyDir: {sizeLimit: 64Mi}
{{- with .Values.edge.tls.existingSecret }}
- name: certificates
  secret: {secretName: {{ . | quote }}, defaultMode: 0440}
{{- end }}
{{- with .Values.edge.tls.clientAuthority.existingSecret }}
- name: authority
  secret: {secretName: {{ . | quote }}, defaultMode: 0440}
{{- end }}
{{- end }}

{{/* A container of our own image in the edge's pod. Takes (dict "root" $ "module" "edge"). */}}
{{- define "seckill.edgeOwn" -}}
image: {{ include "seckill.image" .root }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
args: [{{ .module }}]
envFrom:
  - configMapRef:
      name: {{ include "seckill.fullname" .root }}-edge
securityContext:
  {{- toYaml .root.Values.containerSecurityContext | nindent 2 }}
resources:
  {{- toYaml .root.Values.edge.agent.resources | nindent 2 }}
volumeMounts:
  - {name: tmp, mountPath: /tmp}
  - {name: edge, mountPath: {{ include "seckill.edgeFolder" .root }}}
{{- end }}

{{- define "seckill.envoy" -}}
{{- $ports := include "seckill.edgePorts" . | fromYaml -}}
image: {{ .Values.edge.image.repository }}:{{ .Values.edge.image.tag }}
imagePullPolicy: {{ .Values.edge.image.pullPolicy }}
command: [envoy]
args:
  - -c
  - {{ include "seckill.edgeFolder" . }}/envoy.json
  - --concurrency
  - {{ .Values.edge.workers | quote }}
  - --disable-hot-restart
  - --log-level
  - warning
ports:
  - {name: public, containerPort: {{ $ports.public }}}
  - {name: envoy-metrics, containerPort: {{ $ports.stats }}}
startupProbe:
  httpGet: {path: /ready, port: envoy-metrics}
  periodSeconds: 2
  failureThreshold: 30
livenessProbe:
  tcpSocket: {port: envoy-metrics}
  periodSeconds: 10
  failureThreshold: 3
readinessProbe:
  httpGet: {path: /ready, port: envoy-metrics}
  periodSeconds: 5
  failureThreshold: 2
lifecycle:
  preStop:
    # Envoy ends at once when it is told to. Meanwhile the agent, which gets SIGTERM first, has its
    # clients go elsewhere and its calls end.
    sleep: {seconds: {{ add .Values.drain.preStopSeconds .Values.drain.timeoutSeconds }}}
securityContext:
  {{- toYaml .Values.containerSecurityContext | nindent 2 }}
resources:
  {{- toYaml .Values.edge.resources | nindent 2 }}
volumeMounts:
  - {name: edge, mountPath: {{ include "seckill.edgeFolder" . }}}
  {{- if .Values.edge.tls.existingSecret }}
  - {name: certificates, mountPath: {{ include "seckill.edgeCertificates" . }}, readOnly: true}
  {{- end }}
  {{- if .Values.edge.tls.clientAuthority.existingSecret }}
  - {name: authority, mountPath: {{ include "seckill.edgeAuthority" . }}, readOnly: true}
  {{- end }}
{{- end }}
