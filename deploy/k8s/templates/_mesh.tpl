{{/* The Secret with the certificate of a stage. Takes root and component. */}}
{{- define "seckill.meshSecret" -}}
{{- default (printf "%s-%s-mesh" (include "seckill.fullname" .root) .component) (get .root.Values.meshTls.existingSecrets .component) }}
{{- end }}

{{- define "seckill.meshFolder" -}}/etc/seckill-mesh{{- end }}

{{/* The volume of that Secret, and its mount. */}}
{{- define "seckill.meshVolume" -}}
- name: mesh
  secret: {secretName: {{ include "seckill.meshSecret" . | quote }}, defaultMode: 0440}
{{- end }}
{{- define "seckill.meshMount" -}}
- {name: mesh, mountPath: {{ include "seckill.meshFolder" .root }}, readOnly: true}
{{- end }}

{{/* The settings of the TLS between services, as YAML; nothing without it. */}}
{{- define "seckill.meshSettings" -}}
{{- if .root.Values.meshTls.enabled -}}
mesh_tls_certificate: {{ include "seckill.meshFolder" .root }}/tls.crt
mesh_tls_key: {{ include "seckill.meshFolder" .root }}/tls.key
mesh_tls_ca: {{ include "seckill.meshFolder" .root }}/ca.crt
mesh_tls_domain: {{ .root.Values.meshTls.domain }}
{{- if ne .component "edge" }}
mesh_tls_probe_listen: "0.0.0.0:{{ .root.Values.meshTls.probePort }}"
{{- end }}
{{- end -}}
{{- end }}

{{/* Where a service answers probes. Takes root and service. */}}
{{- define "seckill.probePort" -}}
{{- ternary .root.Values.meshTls.probePort .service.port .root.Values.meshTls.enabled }}
{{- end }}
