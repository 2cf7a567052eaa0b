{{- define "cairn.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" }}{{ end }}
{{- end }}

{{/* The labels by which a component's pods are found; called with (list $ "query"). */}}
{{- define "cairn.selector" -}}
app.kubernetes.io/name: {{ (index . 0).Chart.Name }}
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "cairn.labels" -}}
{{ include "cairn.selector" . }}
app.kubernetes.io/version: {{ (index . 0).Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ (index . 0).Release.Service }}
helm.sh/chart: {{ printf "%s-%s" (index . 0).Chart.Name (index . 0).Chart.Version }}
{{- end }}

{{- define "cairn.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "cairn.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}{{ .Values.serviceAccount.name | default (include "cairn.name" .) }}{{ else }}{{ .Values.serviceAccount.name | default "default" }}{{ end }}
{{- end }}

{{- define "cairn.natsSecret" -}}
{{ .Values.nats.existingSecret | default (printf "%s-nats" (include "cairn.name" .)) }}
{{- end }}

{{- define "cairn.bundled" -}}
{{- if and .Values.postgres.enabled (not .Values.database.existingSecret) }}true{{ end }}
{{- end }}

{{/* Where the database is, as environment variables. */}}
{{- define "cairn.database" -}}
{{- if include "cairn.bundled" . -}}
- name: PGPASSWORD
  valueFrom: {secretKeyRef: {name: {{ include "cairn.name" . }}-postgres, key: password}}
- name: DATABASE_URL
  value: postgres://cairn@{{ include "cairn.name" . }}-postgres:5432/cairn
{{- else -}}
- name: DATABASE_URL
  valueFrom: {secretKeyRef: {name: {{ required "set database.existingSecret, or postgres.enabled" .Values.database.existingSecret }}, key: {{ .Values.database.existingSecretKey }}}}
{{- end }}
{{- end }}

{{/* The database for those who only read. */}}
{{- define "cairn.readDatabase" -}}
{{- if .Values.database.readSecret -}}
- name: DATABASE_URL
  valueFrom: {secretKeyRef: {name: {{ .Values.database.readSecret }}, key: {{ .Values.database.readSecretKey }}}}
{{- else -}}
{{ include "cairn.database" . }}
{{- end }}
{{- end }}

{{/* The addresses of the queue's nodes; called with (list $ "nats://" 4222). */}}
{{- define "cairn.nodes" -}}
{{- $name := include "cairn.name" (index . 0) -}}
{{- range $i := until (int (index . 0).Values.ingest.replicas) }}{{ if $i }},{{ end }}{{ index $ 1 }}{{ $name }}-ingest-{{ $i }}.{{ $name }}-nats:{{ index $ 2 }}{{ end }}
{{- end }}

{{/* How a role reaches the queue; called with (list $ "query"). */}}
{{- define "cairn.queue" -}}
- name: NATS_URL
  {{- if gt (int (index . 0).Values.ingest.replicas) 1 }}
  value: {{ include "cairn.nodes" (list (index . 0) "nats://" 4222) }}
  {{- else }}
  value: nats://{{ include "cairn.name" (index . 0) }}-nats:4222
  {{- end }}
- name: NATS_PASSWORD
  valueFrom: {secretKeyRef: {name: {{ include "cairn.natsSecret" (index . 0) }}, key: {{ index . 1 }}}}
- name: CAIRN_NATS_PASSWORDS
  value: {{ index . 1 }}=$(NATS_PASSWORD)
{{- end }}

{{/* What all pods of the image have; called with (list $ "query"). */}}
{{- define "cairn.pod" -}}
{{- $ := index . 0 -}}
serviceAccountName: {{ include "cairn.serviceAccount" $ }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with $.Values.imagePullSecrets }}
imagePullSecrets: {{ toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "cairn.placement" -}}
{{- with .nodeSelector }}
nodeSelector: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity: {{ toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "cairn.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{/* Alive: the process answers. Ready: it can answer something correct. */}}
{{- define "cairn.probes" -}}
startupProbe:
  httpGet: {path: /livez, port: http}
  periodSeconds: 2
  failureThreshold: 60
livenessProbe:
  httpGet: {path: /livez, port: http}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: {path: /readyz, port: http}
  periodSeconds: 2
  timeoutSeconds: 2
  failureThreshold: 2
{{- end }}

{{/* Whom the roles let in. */}}
{{- define "cairn.auth" -}}
- {name: CAIRN_AUTH, value: {{ .Values.auth.mode | quote }}}
{{- if contains "jwt" .Values.auth.mode }}
- {name: CAIRN_JWT_ISSUER, value: {{ required "auth.jwtIssuer" .Values.auth.jwtIssuer | quote }}}
- {name: CAIRN_JWT_AUDIENCE, value: {{ required "auth.jwtAudience" .Values.auth.jwtAudience | quote }}}
{{- end }}
{{- with .Values.auth.allowOrigins }}
- {name: CAIRN_ALLOW_ORIGINS, value: {{ join "," . | quote }}}
{{- end }}
{{- with .Values.trustedProxies }}
- {name: CAIRN_TRUSTED_PROXIES, value: {{ join "," . | quote }}}
{{- end }}
{{- if .Values.proxyProtocol }}
- {name: CAIRN_PROXY_PROTOCOL, value: "true"}
{{- end }}
{{- end }}
