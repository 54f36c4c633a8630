{{/* The name that all of a release's objects begin with. */}}
{{- define "txwatch.name" -}}
{{- if contains "txwatch" .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{ else }}{{ printf "%s-txwatch" .Release.Name | trunc 40 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "txwatch.image" -}}
{{- if .Values.image.digest }}{{ .Values.image.repository }}@{{ .Values.image.digest }}{{ else }}{{ .Values.image.repository }}:{{ .Values.image.tag | default (printf "v%s" .Chart.AppVersion) }}{{ end }}
{{- end }}

{{/* By which a Service and a NetworkPolicy find the pods of a component. */}}
{{- define "txwatch.selector" -}}
app.kubernetes.io/name: txwatch
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .name }}
{{- end }}

{{- define "txwatch.labels" -}}
{{ include "txwatch.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{- end }}

{{- define "txwatch.metadata" -}}
name: {{ include "txwatch.name" .root }}-{{ .name }}
labels:
  {{- include "txwatch.labels" . | nindent 2 }}
{{- end }}

{{/* One variable from a key of a secret. */}}
{{- define "txwatch.secret" -}}
- name: {{ .variable }}
  valueFrom: {secretKeyRef: {name: {{ .secret }}, key: {{ .key }}}}
{{- end }}

{{/*
The environment of a component. `needs` names what it reads besides the database: mlflow, files, redis, telegram, node,
key (the API's), artifacts (the place of models) and
instance (the run launcher).
*/}}
{{- define "txwatch.environment" -}}
{{- $root := .root -}}
{{- $values := .root.Values -}}
{{- $name := include "txwatch.name" .root -}}
{{- $own := index $values .values -}}
{{ include "txwatch.secret" (dict "variable" "DATABASE_URL" "secret" $values.database.secret "key" ($own.databaseKey | default $values.database.key)) }}
- {name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
# Kubernetes and Prometheus know a pod by its address.
- {name: TXWATCH_ALLOWED_HOSTS, value: {{ concat (list (printf "%s-api" $name) (printf "%s-mlflow" $name) "$(POD_IP)") $values.allowedHosts | join "," | quote }}}
- {name: TXWATCH_HOME, value: /data}
- {name: TXWATCH_CODE_HOST, value: {{ $name }}-code}
- {name: TXWATCH_CODE_PORT, value: "3030"}
- {name: TXWATCH_API_URL, value: "http://{{ $name }}-api:8000"}
- {name: TXWATCH_KEEPER, value: {{ eq $values.ingestion.as "run" | quote }}}
{{- range $variable, $value := $values.settings }}
- {name: {{ $variable }}, value: {{ $value | toString | quote }}}
{{- end }}
{{- if has "instance" .needs }}
- {name: TXWATCH_DAGSTER_YAML, value: /etc/txwatch/dagster.yaml}
{{- end }}
{{- if has "mlflow" .needs }}
- {name: MLFLOW_TRACKING_URI, value: "http://{{ $name }}-mlflow:5000"}
{{- end }}
{{- if has "artifacts" .needs }}
- {name: MLFLOW_ARTIFACTS_DESTINATION, value: {{ $values.models.s3 | default "/data/mlflow/artifacts" | quote }}}
{{- end }}
{{- if and (has "key" .needs) $values.api.keySecret }}
{{ include "txwatch.secret" (dict "variable" "TXWATCH_API_KEY" "secret" $values.api.keySecret "key" $values.api.keyKey) }}
{{- end }}
{{- if and (has "telegram" .needs) $values.telegram.secret }}
{{ include "txwatch.secret" (dict "variable" "TELEGRAM_BOT_TOKEN" "secret" $values.telegram.secret "key" $values.telegram.key) }}
- {name: TELEGRAM_CHAT_ID, value: {{ $values.telegram.chats | toString | quote }}}
{{- end }}
{{- if and (has "redis" .needs) $values.redis.secret }}
{{ include "txwatch.secret" (dict "variable" "REDIS_URL" "secret" $values.redis.secret "key" $values.redis.key) }}
{{- end }}
{{- if and (has "node" .needs) $values.node.secret }}
{{ include "txwatch.secret" (dict "variable" "BITCOIN_RPC_URL" "secret" $values.node.secret "key" $values.node.key) }}
{{- end }}
{{- if has "files" .needs }}
{{- with $values.reports }}
- {name: TXWATCH_REPORTS, value: {{ . | quote }}}
{{- end }}
{{- with $values.archive }}
- {name: TXWATCH_ARCHIVE, value: {{ . | quote }}}
{{- end }}
{{- with $values.aws.region }}
- {name: AWS_DEFAULT_REGION, value: {{ . | quote }}}
{{- end }}
{{- with $values.aws.endpointUrl }}
- {name: AWS_ENDPOINT_URL, value: {{ . | quote }}}
{{- end }}
{{- with $values.aws.secret }}
{{ include "txwatch.secret" (dict "variable" "AWS_ACCESS_KEY_ID" "secret" . "key" "AWS_ACCESS_KEY_ID") }}
{{ include "txwatch.secret" (dict "variable" "AWS_SECRET_ACCESS_KEY" "secret" . "key" "AWS_SECRET_ACCESS_KEY") }}
{{- end }}
{{- end }}
{{- end }}

{{- define "txwatch.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "txwatch.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* What a container may write to, since its root file system is read-only. */}}
{{- define "txwatch.mounts" -}}
- {name: data, mountPath: /data}
- {name: tmp, mountPath: /tmp}
{{- end }}

{{- define "txwatch.placement" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/*
The spec of a component's pod: `root`, `name`, `values` (its key in the values), `args`, `needs`; perhaps `port`,
`probes` (YAML of them), `account` (a service account with a token), `data` (YAML of the volume's source), `restart`.
*/}}
{{- define "txwatch.pod" -}}
{{- with .restart }}
restartPolicy: {{ . }}
{{- end }}
{{- if .account }}
serviceAccountName: {{ include "txwatch.name" .root }}-{{ .account }}
{{- end }}
automountServiceAccountToken: {{ eq (.account | default "") "dagster" }}
# Variables of services would be settings that nobody has set.
enableServiceLinks: false
{{- with include "txwatch.placement" .root }}
{{ trim . }}
{{- end }}
# The entry point gives its processes 50 s to flush and end.
terminationGracePeriodSeconds: 60
securityContext:
  {{- include "txwatch.podSecurity" . | nindent 2 }}
containers:
  - name: {{ .name }}
    image: {{ include "txwatch.image" .root }}
    imagePullPolicy: {{ .root.Values.image.pullPolicy }}
    args: {{ .args | toJson }}
    env:
      {{- include "txwatch.environment" . | nindent 6 }}
    {{- if .port }}
    ports: [{name: {{ .portName | default "http" }}, containerPort: {{ .port }}}]
    {{- end }}
    {{- with .probes }}
    {{- . | nindent 4 }}
    {{- end }}
    securityContext:
      {{- include "txwatch.containerSecurity" . | nindent 6 }}
    resources:
      {{- toYaml (index .root.Values .values).resources | nindent 6 }}
    volumeMounts:
      {{- include "txwatch.mounts" . | nindent 6 }}
      {{- if has "instance" .needs }}
      - {name: instance, mountPath: /etc/txwatch, readOnly: true}
      {{- end }}
volumes:
  - name: data
    {{- .data | default "emptyDir: {sizeLimit: 2Gi}" | nindent 4 }}
  - {name: tmp, emptyDir: {sizeLimit: 1Gi}}
  {{- if has "instance" .needs }}
  - {name: instance, configMap: {name: {{ include "txwatch.name" .root }}-instance}}
  {{- end }}
{{- end }}

{{/* Probes of a web server at `path`, which any Host may ask. It is not restarted before three minutes after its start. */}}
{{- define "txwatch.webProbes" -}}
startupProbe: {httpGet: {path: {{ .path }}, port: http}, periodSeconds: 5, timeoutSeconds: 5, failureThreshold: 36}
readinessProbe: {httpGet: {path: {{ .path }}, port: http}, periodSeconds: 10, timeoutSeconds: 5}
livenessProbe: {httpGet: {path: {{ .path }}, port: http}, periodSeconds: 20, timeoutSeconds: 10, failureThreshold: 3}
{{- end }}

{{/* A Deployment: what `txwatch.pod` wants, and perhaps `replicas` and `recreate`. */}}
{{- define "txwatch.deployment" -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  {{- include "txwatch.metadata" . | nindent 2 }}
spec:
  replicas: {{ .replicas | default 1 }}
  {{- if .recreate }}
  strategy: {type: Recreate}
  {{- end }}
  selector:
    matchLabels:
      {{- include "txwatch.selector" . | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "txwatch.labels" . | nindent 8 }}
      {{- if has "instance" .needs }}
      annotations:
        # A change of Dagster's instance starts its readers anew.
        checksum/instance: {{ include "txwatch.instance" .root | sha256sum }}
      {{- end }}
    spec:
      {{- if gt (int (.replicas | default 1)) 1 }}
      topologySpreadConstraints:
        - maxSkew: 1
          topologyKey: kubernetes.io/hostname
          whenUnsatisfiable: ScheduleAnyway
          labelSelector:
            matchLabels:
              {{- include "txwatch.selector" . | nindent 14 }}
      {{- end }}
      {{- include "txwatch.pod" . | nindent 6 }}
{{- end }}

{{/* A Service of a component's port. */}}
{{- define "txwatch.service" -}}
apiVersion: v1
kind: Service
metadata:
  {{- include "txwatch.metadata" . | nindent 2 }}
spec:
  selector:
    {{- include "txwatch.selector" . | nindent 4 }}
  ports: [{name: {{ .portName | default "http" }}, port: {{ .port }}, targetPort: {{ .portName | default "http" }}}]
{{- end }}
