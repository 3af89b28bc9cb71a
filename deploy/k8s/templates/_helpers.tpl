{{- define "seckill.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" }}
{{- end }}

{{/* 50 characters leave room for "-inventory" within the 63 of a name. */}}
{{- define "seckill.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else if contains (include "seckill.name" .) .Release.Name }}
{{- .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "seckill.name" .) | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* What is fixed about each service: its program, its ports, the services and the stores it calls. */}}
{{- define "seckill.services" -}}
gateway: {module: gateway, port: 50051, metricsPort: 9101, calls: [inventory, order], stores: []}
inventory: {module: inventory_svc, port: 50052, metricsPort: 9102, calls: [order], stores: [redis, kafka]}
order: {module: order_svc, port: 50053, metricsPort: 9103, calls: [], stores: [redis, kafka, postgres]}
rollback: {module: rollback_svc, port: 50054, metricsPort: 9104, calls: [inventory, order], stores: [redis]}
{{- end }}

{{/* Labels that never change. Takes (dict "root" $ "component" "gateway"). */}}
{{- define "seckill.selectorLabels" -}}
app.kubernetes.io/name: {{ include "seckill.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "seckill.labels" -}}
{{ include "seckill.selectorLabels" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: seckill
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end }}

{{/* The mesh as a whole: every pod of the release, whatever its component. */}}
{{- define "seckill.releaseLabels" -}}
app.kubernetes.io/name: {{ include "seckill.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "seckill.image" -}}
{{- with .Values.image }}
{{- if .digest }}{{ .repository }}@{{ .digest }}
{{- else }}{{ .repository }}:{{ default $.Chart.AppVersion .tag }}
{{- end }}
{{- end }}
{{- end }}

{{/* Address of a service for gRPC's own resolver, which sees every pod of a headless Service. */}}
{{- define "seckill.target" -}}
{{- $service := get (include "seckill.services" .root | fromYaml) .component -}}
dns:///{{ include "seckill.fullname" .root }}-{{ .component }}.{{ .root.Release.Namespace }}.svc.{{ .root.Values.clusterDomain }}:{{ $service.port }}
{{- end }}
