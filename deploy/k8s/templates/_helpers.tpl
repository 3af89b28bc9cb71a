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

{{- define "seckill.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride }}
{{- end }}

{{/* What is fixed about each service: its program, its ports, the services and the stores it calls. */}}
{{- define "seckill.services" -}}
gateway: {module: gateway, port: 50051, metricsPort: 9101, calls: [inventory, order], stores: []}
inventory: {module: inventory_svc, port: 50052, metricsPort: 9102, calls: [order], stores: [redis, kafka]}
order: {module: order_svc, port: 50053, metricsPort: 9103, calls: [], stores: [redis, kafka, postgres]}
rollback: {module: rollback_svc, port: 50054, metricsPort: 9104, calls: [inventory, order], stores: [redis]}
{{- end }}

{{/* The components that have a Deployment, as a JSON list within a map. */}}
{{- define "seckill.components" -}}
{{- $names := keys (include "seckill.services" . | fromYaml) | sortAlpha -}}
{{- if .Values.edge.enabled }}{{ $names = append $names "edge" }}{{ end -}}
{{- dict "names" $names | toJson }}
{{- end }}

{{/* Labels that never change. Takes (dict "root" $ "component" "gateway"). */}}
{{- define "seckill.selectorLabels" -}}
app.kubernetes.io/name: {{ include "seckill.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* All labels of an object; the chart's own win over those of the values. Takes "labels", too. */}}
{{- define "seckill.labels" -}}
{{- $own := include "seckill.selectorLabels" . | fromYaml -}}
{{- $_ := set $own "app.kubernetes.io/version" (.root.Chart.AppVersion | toString) -}}
{{- $_ := set $own "app.kubernetes.io/part-of" "seckill" -}}
{{- $_ := set $own "app.kubernetes.io/managed-by" .root.Release.Service -}}
{{- $_ := set $own "helm.sh/chart" (printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_") -}}
{{- toYaml (mergeOverwrite (deepCopy .root.Values.commonLabels) (deepCopy (default dict .labels)) $own) }}
{{- end }}

{{/* The mesh as a whole: every pod of the release, whatever its component. */}}
{{- define "seckill.releaseLabels" -}}
app.kubernetes.io/name: {{ include "seckill.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* Metadata of an object. Takes root, component, and what differs: "suffix" (the end of its name, if
it is not the component), "labels", "annotations". */}}
{{- define "seckill.metadata" -}}
{{- $suffix := ternary .suffix .component (hasKey . "suffix") -}}
name: {{ include "seckill.fullname" .root }}{{ with $suffix }}-{{ . }}{{ end }}
namespace: {{ include "seckill.namespace" .root }}
labels:
  {{- include "seckill.labels" . | nindent 2 }}
{{- with mergeOverwrite (deepCopy .root.Values.commonAnnotations) (deepCopy (default dict .annotations)) }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
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
dns:///{{ include "seckill.fullname" .root }}-{{ .component }}.{{ include "seckill.namespace" .root }}.svc.{{ .root.Values.clusterDomain }}:{{ $service.port }}
{{- end }}

{{/* Address of a Service of the release by its suffix and port. */}}
{{- define "seckill.address" -}}
{{ include "seckill.fullname" .root }}-{{ .suffix }}.{{ include "seckill.namespace" .root }}.svc.{{ .root.Values.clusterDomain }}:{{ .port }}
{{- end }}

{{/* Name of the account of a component. */}}
{{- define "seckill.account" -}}
{{- $account := (get .root.Values .component).serviceAccount -}}
{{- default (ternary (printf "%s-%s" (include "seckill.fullname" .root) .component) "default" $account.create) $account.name }}
{{- end }}

{{/* A field that all components have and each may have for itself: maps are merged, lists of volumes,
mounts and variables are joined, anything else is the component's or else all components'. Takes root,
component (any value of the chart, e.g. "migration") and field; gives YAML, or nothing. */}}
{{- define "seckill.field" -}}
{{- $own := index (default dict (index .root.Values .component)) .field -}}
{{- $all := index .root.Values .field -}}
{{- $value := ternary $all $own (kindIs "invalid" $own) -}}
{{- if has .field (list "extraEnv" "extraVolumes" "extraVolumeMounts") -}}
{{- $value = concat (default list $all) (default list $own) -}}
{{- else if has .field (list "podAnnotations" "podLabels" "nodeSelector" "probes" "strategy") -}}
{{- $value = mergeOverwrite (deepCopy (default dict $all)) (deepCopy (default dict $own)) -}}
{{- end -}}
{{- if or (kindIs "float64" $value) (kindIs "int" $value) (kindIs "int64" $value) }}{{ int64 $value }}
{{- else if $value }}{{ toYaml $value }}
{{- end -}}
{{- end }}

{{/* How many pods a component has. With an autoscaler, or with `replicaCount: null`, another one says
that. Once it has, the field is its own and left out. Until then what is live stays, since the field
would become 1 if Helm, its only owner, left it out. */}}
{{- define "seckill.replicas" -}}
{{- $values := get .root.Values .component -}}
{{- if and (not $values.autoscaling.enabled) (not (kindIs "invalid" $values.replicaCount)) -}}
replicas: {{ int $values.replicaCount }}
{{- else -}}
{{- $name := printf "%s-%s" (include "seckill.fullname" .root) .component -}}
{{- with lookup "apps/v1" "Deployment" (include "seckill.namespace" .root) $name -}}
{{- $scaled := false -}}
{{- range .metadata.managedFields }}{{ if eq (toString .subresource) "scale" }}{{ $scaled = true }}{{ end }}{{ end -}}
{{- if not $scaled -}}
replicas: {{ int .spec.replicas }}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* Recreate has no parameters, but a map of the values keeps those of the default. */}}
{{- define "seckill.strategy" -}}
{{- $strategy := include "seckill.field" (merge (dict "field" "strategy") .) | fromYaml -}}
{{- if eq $strategy.type "Recreate" }}{{ $strategy = omit $strategy "rollingUpdate" }}{{ end -}}
{{- toYaml $strategy }}
{{- end }}
