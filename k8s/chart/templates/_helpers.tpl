{{/* Names and labels. */}}
{{- define "phjob.fullname" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" }}{{ end }}
{{- end }}

{{/* The name prefix of objects without a namespace. */}}
{{- define "phjob.clusterName" -}}
{{ .Release.Namespace }}-{{ include "phjob.fullname" . }}
{{- end }}

{{- define "phjob.jobNamespace" -}}
{{ .Values.jobNamespace | default .Release.Namespace }}
{{- end }}

{{- define "phjob.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "phjob.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* The selector of one Deployment's pods. Call: (list $ item), with an item of phjob.deployments. */}}
{{- define "phjob.podSelector" -}}
{{- $item := index . 1 -}}
{{ include "phjob.selector" (index . 0) }}
app.kubernetes.io/component: {{ $item.service }}
{{- if hasKey $item "shard" }}
primehub.io/shard: {{ $item.shard | quote }}
{{- end }}
{{- end }}

{{- define "phjob.rabbitmqSelector" -}}
app.kubernetes.io/name: rabbitmq
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "phjob.labels" -}}
{{ include "phjob.selector" . }}
{{ include "phjob.versionLabels" . }}
{{- end }}

{{- define "phjob.versionLabels" -}}
app.kubernetes.io/part-of: phjob
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{/* The service account of a service. Call: (list $ "watcher"). */}}
{{- define "phjob.account" -}}
{{ include "phjob.fullname" (index . 0) }}-{{ index . 1 }}
{{- end }}

{{- define "phjob.brokerSecret" -}}
{{ .Values.broker.secret | default (printf "%s-broker" (include "phjob.fullname" .)) }}
{{- end }}

{{- define "phjob.rabbitmq" -}}
{{ include "phjob.fullname" . }}-rabbitmq
{{- end }}

{{/* The Secret with the certificate of the chart's own RabbitMQ. */}}
{{- define "phjob.rabbitmqTls" -}}
{{ .Values.rabbitmq.tls.secret | default (printf "%s-tls" (include "phjob.rabbitmq" .)) }}
{{- end }}

{{/* The folder of a service's login: "url" is the AMQP URL, "ca.crt" the CA of the broker's certificate. */}}
{{- define "phjob.brokerFolder" -}}
/etc/phjob-broker
{{- end }}

{{/*
Every Deployment of the services, as {"items": [{name, service, shard, kubernetes}]}. The watcher has no shards. Only the
watcher and pod-manager access Kubernetes.
*/}}
{{- define "phjob.deployments" -}}
{{- $items := list (dict "name" "watcher" "service" "watcher" "kubernetes" true) }}
{{- range $shard := until (int .Values.shards) }}
{{- range $service := list "scheduler" "janitor" "pod-manager" }}
{{- $name := printf "%s-%d" $service $shard }}
{{- $items = append $items (dict "name" $name "service" $service "shard" $shard "kubernetes" (eq $service "pod-manager")) }}
{{- end }}
{{- end }}
{{- dict "items" $items | toJson }}
{{- end }}

{{/* The security context of every container of the chart: no privileges. */}}
{{- define "phjob.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* The security context of a pod. Call with the id of its user. */}}
{{- define "phjob.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ . }}
runAsGroup: {{ . }}
fsGroup: {{ . }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "phjob.settings" -}}
{{ toYaml (pick .Values "jobSubmission" "logArchive") }}
{{- end }}

{{/* The users that act for every user, as a list in CEL. pod-manager is one, because it deletes old records. */}}
{{- define "phjob.trusted" -}}
{{ prepend .Values.identity.trusted (printf "system:serviceaccount:%s:%s" .Release.Namespace (include "phjob.account" (list . "pod-manager"))) | toJson }}
{{- end }}
