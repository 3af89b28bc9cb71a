{{/* Ports of the edge: for the public, for operators, Envoy's own, the agent's metrics. */}}
{{- define "seckill.edgePorts" -}}
{public: 8080, operators: 8081, stats: 9106, metrics: 9105}
{{- end }}

{{/* The Secret with the public's certificate; nothing if the edge speaks plaintext. */}}
{{- define "seckill.edgeTlsSecret" -}}
{{- with .Values.edge.tls -}}
{{- if .existingSecret }}{{ .existingSecret }}
{{- else if .certificate.enabled }}{{ include "seckill.fullname" $ }}-edge-tls
{{- end -}}
{{- end -}}
{{- end }}

{{/* The port of the edge's Service. */}}
{{- define "seckill.edgePort" -}}
{{- default (ternary 80 443 (empty (include "seckill.edgeTlsSecret" .))) .Values.edge.service.port }}
{{- end }}

{{/* Whether the edge serves pages, storefront or console: "true" or nothing. */}}
{{- define "seckill.edgeHasPages" -}}
{{- if or .Values.edge.pages.enabled .Values.edge.operators.enabled }}true{{ end -}}
{{- end }}

{{/* The ConfigMap with the shop's own files for the site's root; nothing if there is none. */}}
{{- define "seckill.edgeFiles" -}}
{{- if include "seckill.edgeHasPages" . }}{{ .Values.edge.pages.existingConfigMap }}{{ end -}}
{{- end }}

{{/* Whether the edge reads the operators' keys from a volume: "true" or nothing. */}}
{{- define "seckill.operatorKeysMounted" -}}
{{- if .Values.edge.operators.enabled }}{{ include "seckill.jwksMounted" (dict "root" . "component" "order") }}{{ end -}}
{{- end }}

{{/* Where Envoy and the agent share files, and where certificates are. */}}
{{- define "seckill.edgeFolder" -}}/run/seckill-edge{{- end }}
{{- define "seckill.edgeCertificates" -}}/etc/seckill/tls{{- end }}
{{- define "seckill.edgePagesFolder" -}}{{ include "seckill.edgeFolder" . }}/web{{- end }}
{{- define "seckill.edgeFilesFolder" -}}/etc/seckill/pages{{- end }}
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
{{- $settings = mergeOverwrite $settings (include "seckill.meshSettings" (dict "root" . "component" "edge") | fromYaml) -}}
{{- if include "seckill.edgeTlsSecret" . -}}
{{- $_ := set $settings "edge_tls" "required" -}}
{{- $_ := set $settings "edge_tls_certificate" (printf "%s/tls.crt" (include "seckill.edgeCertificates" $)) -}}
{{- $_ := set $settings "edge_tls_key" (printf "%s/tls.key" (include "seckill.edgeCertificates" $)) -}}
{{- end -}}
{{- with .Values.edge.tls.clientAuthority -}}
{{- if .existingSecret -}}
{{- $_ := set $settings "edge_client_certificates" (ternary "required" "optional" .required) -}}
{{- $_ := set $settings "edge_client_ca" (printf "%s/ca.crt" (include "seckill.edgeAuthority" $)) -}}
{{- end -}}
{{- end -}}
{{- if .Values.edge.pages.enabled -}}
{{- $_ := set $settings "edge_web_directory" (include "seckill.edgePagesFolder" $) -}}
{{- end -}}
{{- if .Values.edge.operators.enabled -}}
{{- $_ := set $settings "edge_operator_listen" (printf "0.0.0.0:%v" $ports.operators) -}}
{{- $_ := set $settings "edge_operator_web_directory" (include "seckill.edgePagesFolder" $) -}}
{{- range list "order" "rollback" -}}
{{- $_ := set $settings (printf "%s_target" .) (include "seckill.target" (dict "root" $ "component" .)) -}}
{{- end -}}
{{- $settings = merge $settings (include "seckill.operatorSettings" . | fromYaml) -}}
{{- end -}}
{{- include "seckill.variables" (mergeOverwrite $settings (deepCopy .Values.settings) (deepCopy .Values.edge.settings)) }}
{{- end }}
