{{/* What no schema can say: values that must go together. Each message begins with the path. */}}
{{- define "seckill.validate" -}}
{{- $values := .Values -}}
{{- if $values.trialIdentity.enabled -}}
{{- if ne (default "production" $values.settings.profile) "development" -}}
{{- fail "trialIdentity.enabled: needs settings.profile: development, since the production profile refuses symmetric keys" -}}
{{- end -}}
{{- else if not $values.gateway.jwt.issuer -}}
{{- fail "gateway.jwt.issuer: is required: the `iss` of the identity provider's tokens" -}}
{{- end -}}
{{- if and (include "seckill.jwks" (dict "root" . "component" "order")) (not $values.order.operators.jwt.issuer) (not $values.trialIdentity.enabled) -}}
{{- fail "order.operators.jwt.issuer: is required with order.operators.jwks" -}}
{{- end -}}
{{- range $component := (include "seckill.components" . | fromJson).names -}}
{{- include "seckill.validateComponent" (dict "root" $ "component" $component) -}}
{{- end -}}
{{- with $values.meshTls -}}
{{- if and .certificates.enabled (not .certificates.issuerRef.name) }}{{ fail "meshTls.certificates.issuerRef.name: is required with meshTls.certificates.enabled" }}{{ end -}}
{{- if and .certificates.enabled (not .enabled) }}{{ fail "meshTls.certificates.enabled: needs meshTls.enabled" }}{{ end -}}
{{- end -}}
{{- if and $values.podMonitor.enabled $values.serviceMonitor.enabled -}}
{{- fail "serviceMonitor.enabled: not together with podMonitor.enabled: each pod would be read twice" -}}
{{- end -}}
{{- range $route := list "ingress" "httpRoute" "grpcRoute" -}}
{{- if (get $values $route).enabled -}}
{{- if not (or $values.edge.enabled $values.gateway.clusterIP.enabled) -}}
{{- fail (printf "%s.enabled: needs a Service to lead to: edge.enabled or gateway.clusterIP.enabled" $route) -}}
{{- end -}}
{{- $needed := ternary "hosts" "parentRefs" (eq $route "ingress") -}}
{{- if not (get (get $values $route) $needed) -}}
{{- fail (printf "%s.%s: is required with %s.enabled" $route $needed $route) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if $values.edge.operators.enabled -}}
{{- if not $values.edge.enabled }}{{ fail "edge.operators.enabled: needs edge.enabled" }}{{ end -}}
{{- if not (include "seckill.jwks" (dict "root" . "component" "order")) -}}
{{- fail "edge.operators.enabled: needs order.operators.jwks: the keys that say who is an operator" -}}
{{- end -}}
{{- end -}}
{{- with $values.edge.tls -}}
{{- if .certificate.enabled -}}
{{- if not .certificate.issuerRef.name }}{{ fail "edge.tls.certificate.issuerRef.name: is required with edge.tls.certificate.enabled" }}{{ end -}}
{{- if not .certificate.dnsNames }}{{ fail "edge.tls.certificate.dnsNames: is required with edge.tls.certificate.enabled" }}{{ end -}}
{{- end -}}
{{- if and .clientAuthority.existingSecret (not (include "seckill.edgeTlsSecret" $)) -}}
{{- fail "edge.tls.clientAuthority.existingSecret: needs edge.tls.existingSecret or edge.tls.certificate.enabled" -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* The same for one component. Takes root and component. */}}
{{- define "seckill.validateComponent" -}}
{{- with (get .root.Values .component).autoscaling -}}
{{- if .enabled -}}
{{- if gt (int .minReplicas) (int .maxReplicas) -}}
{{- fail (printf "%s.autoscaling.minReplicas: %v is more than maxReplicas, %v" $.component .minReplicas .maxReplicas) -}}
{{- end -}}
{{- if not (or .targetCPUUtilizationPercentage .targetMemoryUtilizationPercentage .metrics) -}}
{{- fail (printf "%s.autoscaling: has nothing to look at: set targetCPUUtilizationPercentage, targetMemoryUtilizationPercentage or metrics" $.component) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $strategy := include "seckill.strategy" . | fromYaml -}}
{{- with $strategy.rollingUpdate -}}
{{- if and (eq (toString .maxSurge) "0") (eq (toString .maxUnavailable) "0") -}}
{{- fail (printf "%s.strategy.rollingUpdate: maxSurge and maxUnavailable are both 0, so that no pod could ever be replaced" $.component) -}}
{{- end -}}
{{- end -}}
{{- end }}
