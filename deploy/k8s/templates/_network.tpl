{{/* Who may reach a service. Takes (dict "root" $ "component" "gateway"). */}}
{{- define "seckill.ingressRules" -}}
{{- $services := include "seckill.services" .root | fromYaml -}}
{{- $service := get $services .component -}}
{{- $policy := .root.Values.networkPolicy -}}
{{- $edge := eq .component "gateway" -}}
{{- $open := and $edge (not $policy.gatewayFrom) -}}
- ports: [{port: {{ $service.port }}, protocol: TCP}]
  {{- if not $open }}
  from:
    {{- range $caller, $facts := $services }}
    {{- if has $.component $facts.calls }}
    {{- include "seckill.peer" (dict "root" $.root "component" $caller) | nindent 4 }}
    {{- end }}
    {{- end }}
    {{- $edge_calls := or (has .component (list "gateway" "inventory")) .root.Values.edge.operators.enabled }}
    {{- if and .root.Values.edge.enabled $edge_calls }}
    {{- include "seckill.peer" (dict "root" .root "component" "edge") | nindent 4 }}
    {{- end }}
    {{- include "seckill.peer" (dict "root" .root "component" "test") | nindent 4 }}
    {{- with ternary $policy.gatewayFrom $policy.internalFrom $edge }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- end }}
{{- if .root.Values.meshTls.enabled }}
- ports: [{port: {{ .root.Values.meshTls.probePort }}, protocol: TCP}]
  from:
    {{- include "seckill.peer" (dict "root" .root "component" "test") | nindent 4 }}
{{- end }}
{{- with $policy.metricsFrom }}
- ports: [{port: {{ $service.metricsPort }}, protocol: TCP}]
  from:
    {{- toYaml . | nindent 4 }}
{{- end }}
{{- end }}

{{/* What a pod may reach. Takes (dict "root" $ "calls" (list "order") "stores" (list "redis")). */}}
{{- define "seckill.egressRules" -}}
{{- $services := include "seckill.services" .root | fromYaml -}}
{{- range .calls }}
- ports: [{port: {{ (get $services .).port }}, protocol: TCP}]
  to:
    {{- include "seckill.peer" (dict "root" $.root "component" .) | nindent 4 }}
{{- end }}
{{- range .stores }}
{{- with get $.root.Values.networkPolicy.stores . }}
- ports: [{port: {{ .port }}, protocol: TCP}]
  {{- with .to }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "seckill.peer" -}}
- podSelector:
    matchLabels:
      {{- include "seckill.selectorLabels" . | nindent 6 }}
{{- end }}
