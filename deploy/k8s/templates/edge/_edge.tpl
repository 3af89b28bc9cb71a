{{/* The volumes that Envoy and the agent share, and those with certificates. */}}
{{- define "seckill.edgeVolumes" -}}
- name: tmp
  emptyDir: {sizeLimit: 64Mi}
- name: edge
  emptyDir: {sizeLimit: 64Mi}
{{- with include "seckill.edgeTlsSecret" . }}
- name: certificates
  secret: {secretName: {{ . | quote }}, defaultMode: 0440}
{{- end }}
{{- if .Values.meshTls.enabled }}
{{ include "seckill.meshVolume" (dict "root" . "component" "edge") }}
{{- end }}
{{- with .Values.edge.tls.clientAuthority.existingSecret }}
- name: authority
  secret: {secretName: {{ . | quote }}, defaultMode: 0440}
{{- end }}
{{- if include "seckill.operatorKeysMounted" . }}
{{ include "seckill.jwksVolume" (dict "root" . "component" "order") }}
{{- end }}
{{- with include "seckill.edgeFiles" . }}
- name: pages
  configMap: {name: {{ . | quote }}}
{{- end }}
{{- end }}

{{/* What builds the pages into the folder that Envoy serves. */}}
{{- define "seckill.edgePages" -}}
{{- $arguments := list "edge.pages" (include "seckill.edgePagesFolder" .) "--config" (toJson .Values.edge.pages.config) -}}
{{- if include "seckill.edgeFiles" . }}{{ $arguments = concat $arguments (list "--add" (include "seckill.edgeFilesFolder" .)) }}{{ end -}}
{{- include "seckill.edgeOwn" (dict "root" . "arguments" $arguments "files" (include "seckill.edgeFiles" .)) }}
{{- end }}

{{/* A container of our own image in the edge's pod. Takes (dict "root" $ "arguments" (list "edge")), and
what it reads beside its settings: "keys", "files". */}}
{{- define "seckill.edgeOwn" -}}
{{- $scope := dict "root" .root "component" "edge" -}}
image: {{ include "seckill.image" .root }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
args:
  {{- toYaml .arguments | nindent 2 }}
envFrom:
  - configMapRef:
      name: {{ include "seckill.fullname" .root }}-edge
{{- with include "seckill.field" (merge (dict "field" "extraEnv") $scope) }}
env:
  {{- . | nindent 2 }}
{{- end }}
securityContext:
  {{- toYaml .root.Values.containerSecurityContext | nindent 2 }}
resources:
  {{- toYaml .root.Values.edge.agent.resources | nindent 2 }}
volumeMounts:
  - {name: tmp, mountPath: /tmp}
  - {name: edge, mountPath: {{ include "seckill.edgeFolder" .root }}}
{{- if .keys }}
  - {name: jwks, mountPath: {{ include "seckill.keysFolder" .root }}, readOnly: true}
{{- end }}
{{- if .files }}
  - {name: pages, mountPath: {{ include "seckill.edgeFilesFolder" .root }}, readOnly: true}
{{- end }}
{{- if .root.Values.meshTls.enabled }}
  {{- include "seckill.meshMount" . | nindent 2 }}
{{- end }}
{{- with include "seckill.field" (merge (dict "field" "extraVolumeMounts") $scope) }}
  {{- . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Envoy's container. Takes root, component and "probes". */}}
{{- define "seckill.envoy" -}}
{{- $ports := include "seckill.edgePorts" . | fromYaml -}}
{{- $edge := .root.Values.edge -}}
image: {{ $edge.image.repository }}:{{ $edge.image.tag }}
imagePullPolicy: {{ $edge.image.pullPolicy }}
command: [envoy]
args:
  - -c
  - {{ include "seckill.edgeFolder" . }}/envoy.json
  - --concurrency
  - {{ $edge.workers | quote }}
  - --disable-hot-restart
  - --log-level
  - warning
ports:
  - {name: public, containerPort: {{ $ports.public }}}
{{- if $edge.operators.enabled }}
  - {name: operators, containerPort: {{ $ports.operators }}}
{{- end }}
  - {name: envoy-metrics, containerPort: {{ $ports.stats }}}
startupProbe:
  httpGet: {path: /ready, port: envoy-metrics}
  {{- toYaml .probes.startup | nindent 2 }}
livenessProbe:
  tcpSocket: {port: envoy-metrics}
  {{- toYaml .probes.liveness | nindent 2 }}
readinessProbe:
  httpGet: {path: /ready, port: envoy-metrics}
  {{- toYaml .probes.readiness | nindent 2 }}
lifecycle:
  preStop:
    # Envoy ends at once when it is told to. Meanwhile the agent, which gets SIGTERM first, has its
    # clients go elsewhere and its calls end.
    sleep: {seconds: {{ add .root.Values.drain.preStopSeconds .root.Values.drain.timeoutSeconds }}}
securityContext:
  {{- toYaml .root.Values.containerSecurityContext | nindent 2 }}
resources:
  {{- toYaml $edge.resources | nindent 2 }}
volumeMounts:
  - {name: edge, mountPath: {{ include "seckill.edgeFolder" . }}}
  {{- if include "seckill.edgeTlsSecret" .root }}
  - {name: certificates, mountPath: {{ include "seckill.edgeCertificates" . }}, readOnly: true}
  {{- end }}
  {{- if .root.Values.meshTls.enabled }}
  {{- include "seckill.meshMount" . | nindent 2 }}
  {{- end }}
  {{- if $edge.tls.clientAuthority.existingSecret }}
  - {name: authority, mountPath: {{ include "seckill.edgeAuthority" . }}, readOnly: true}
  {{- end }}
{{- with include "seckill.field" (merge (dict "field" "extraVolumeMounts") .) }}
  {{- . | nindent 2 }}
{{- end }}
{{- end }}
