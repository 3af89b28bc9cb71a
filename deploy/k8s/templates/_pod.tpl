{{/* Liveness asks only whether the process runs; readiness asks for its stores too. */}}
{{- define "seckill.probes" -}}
{{- $probes := include "seckill.field" (merge (dict "field" "probes") .) | fromYaml -}}
startupProbe:
  grpc: {port: {{ include "seckill.probePort" . }}, service: live}
  {{- toYaml $probes.startup | nindent 2 }}
livenessProbe:
  grpc: {port: {{ include "seckill.probePort" . }}, service: live}
  {{- toYaml $probes.liveness | nindent 2 }}
readinessProbe:
  grpc: {port: {{ include "seckill.probePort" . }}}
  {{- toYaml $probes.readiness | nindent 2 }}
{{- end }}

{{- define "seckill.container" -}}
image: {{ include "seckill.image" .root }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
args: [{{ .service.module }}]
ports:
  - {name: grpc, containerPort: {{ .service.port }}}
  - {name: metrics, containerPort: {{ .service.metricsPort }}}
{{- if .root.Values.meshTls.enabled }}
  - {name: probes, containerPort: {{ .root.Values.meshTls.probePort }}}
{{- end }}
envFrom:
  - configMapRef:
      name: {{ include "seckill.fullname" .root }}-{{ .component }}
{{- with include "seckill.env" . | trim }}
env:
  {{- . | nindent 2 }}
{{- end }}
{{ include "seckill.probes" . }}
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
  - {name: jwks, mountPath: {{ include "seckill.keysFolder" . }}, readOnly: true}
{{- end }}
{{- if .root.Values.meshTls.enabled }}
  {{- include "seckill.meshMount" . | nindent 2 }}
{{- end }}
{{- with include "seckill.field" (merge (dict "field" "extraVolumeMounts") .) }}
  {{- . | nindent 2 }}
{{- end }}
{{- end }}

{{/* What the pods of all components have around their containers. Takes root, component, and
"digests", annotations whose change replaces the pods. */}}
{{- define "seckill.podMetadata" -}}
labels:
  {{- $labels := include "seckill.field" (merge (dict "field" "podLabels") .) | fromYaml }}
  {{- include "seckill.labels" (merge (dict "labels" $labels) .) | nindent 2 }}
annotations:
  {{- $annotations := include "seckill.field" (merge (dict "field" "podAnnotations") .) | fromYaml }}
  {{- toYaml (mergeOverwrite (deepCopy .root.Values.commonAnnotations) $annotations .digests) | nindent 2 }}
{{- end }}

{{- define "seckill.podSpec" -}}
serviceAccountName: {{ include "seckill.account" . }}
automountServiceAccountToken: false
enableServiceLinks: false
terminationGracePeriodSeconds: {{ add .root.Values.drain.preStopSeconds .root.Values.drain.timeoutSeconds 10 }}
securityContext:
  {{- toYaml .root.Values.podSecurityContext | nindent 2 }}
{{ include "seckill.scheduling" . }}
{{- end }}

{{- define "seckill.scheduling" -}}
topologySpreadConstraints:
{{- with include "seckill.field" (merge (dict "field" "topologySpreadConstraints") .) }}
  {{- . | nindent 2 }}
{{- else }}
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
{{- end }}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- range $field := list "nodeSelector" "tolerations" "affinity" }}
{{- with include "seckill.field" (merge (dict "field" $field) $) }}
{{ $field }}:
  {{- . | nindent 2 }}
{{- end }}
{{- end }}
{{- with include "seckill.field" (merge (dict "field" "priorityClassName") .) }}
priorityClassName: {{ . }}
{{- end }}
{{- end }}

{{/* What Deployments of all components say of their pods' number and replacement. */}}
{{- define "seckill.rollout" -}}
{{- with include "seckill.replicas" . }}
{{- . }}
{{ end -}}
revisionHistoryLimit: {{ include "seckill.field" (merge (dict "field" "revisionHistoryLimit") .) }}
minReadySeconds: {{ include "seckill.field" (merge (dict "field" "minReadySeconds") .) }}
strategy:
  {{- include "seckill.strategy" . | nindent 2 }}
selector:
  matchLabels:
    {{- include "seckill.selectorLabels" . | nindent 4 }}
{{- end }}

{{/* A pod that runs once with our own image: security and pulling. */}}
{{- define "seckill.hookPod" -}}
restartPolicy: Never
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- range $field := list "nodeSelector" "tolerations" "affinity" }}
{{- with get $.Values $field }}
{{ $field }}:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
securityContext:
  {{- toYaml .Values.podSecurityContext | nindent 2 }}
{{- end }}
