{{/* The Service that leads the public in, and its port: the edge's, else the gateway's own. */}}
{{- define "seckill.entrance" -}}
{{- if .Values.edge.enabled -}}
name: {{ include "seckill.fullname" . }}-edge
port: {{ include "seckill.edgePort" . }}
{{- else -}}
name: {{ include "seckill.fullname" . }}-gateway-vip
port: {{ .Values.gateway.clusterIP.port }}
{{- end -}}
{{- end }}

{{/* A route's metadata and what its spec begins with. Takes root, kind ("httpRoute") and suffix. */}}
{{- define "seckill.routeSpec" -}}
{{- $values := get .root.Values .kind -}}
parentRefs:
  {{- toYaml $values.parentRefs | nindent 2 }}
{{- with $values.hostnames }}
hostnames:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "seckill.routeRule" -}}
{{- with (get .root.Values .kind).filters }}
filters:
  {{- toYaml . | nindent 2 }}
{{- end }}
backendRefs:
  - {{- include "seckill.entrance" .root | nindent 4 }}
{{- end }}
