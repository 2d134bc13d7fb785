{{- define "spillway.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "spillway.injector" -}}
{{ .Release.Name }}-injector
{{- end }}

{{- define "spillway.consumer" -}}
{{ .Release.Name }}-consumer
{{- end }}

{{- define "spillway.labels" -}}
app.kubernetes.io/part-of: spillway
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}

{{/* Where pods run and what they are called, as injection or consumer says it. */}}
{{- define "spillway.placed" -}}
{{- with .nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations: {{- toYaml . | nindent 0 }}
{{- end }}
{{- with .affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .topologySpreadConstraints }}
topologySpreadConstraints: {{- toYaml . | nindent 0 }}
{{- end }}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end }}

{{- define "spillway.pullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
{{- range . }}
- name: {{ . }}
{{- end }}
{{- end }}
{{- end }}

{{- define "spillway.pullPolicy" -}}
{{- with .Values.image.pullPolicy }}
imagePullPolicy: {{ . }}
{{- end }}
{{- end }}

{{/* The restricted profile. The image's user is a number, and OpenShift puts in one of its own. */}}
{{- define "spillway.podSecurity" -}}
runAsNonRoot: true
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "spillway.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- define "spillway.probes" -}}
startupProbe:
  httpGet: {path: /startup, port: spillway-admin}
  periodSeconds: 1
  failureThreshold: 60
readinessProbe:
  httpGet: {path: /ready, port: spillway-admin}
  periodSeconds: 5
livenessProbe:
  httpGet: {path: /live, port: spillway-admin}
  periodSeconds: 10
{{- end }}

{{/* What the sidecars of injection.sidecar get, by the program's flag and a pod's annotation. */}}
{{- define "spillway.sidecar" -}}
{{- with .Values.injection.sidecar -}}
image: {{ include "spillway.image" $ }}
rules: {{ .rules }}
env-config: {{ .envConfig | quote }}
env-secret: {{ .envSecret | quote }}
cpu-request: {{ .cpuRequest | quote }}
cpu-limit: {{ .cpuLimit | quote }}
memory-request: {{ .memoryRequest | quote }}
memory-limit: {{ .memoryLimit | quote }}
trusted-proxy: {{ .trustedProxy | quote }}
run-as-user: {{ .runAsUser | quote }}
spool: {{ .spool | quote }}
args: {{ .args | quote }}
pull-secrets: {{ .pullSecrets | join "," | quote }}
{{- end }}
{{- end }}
