{{/* Names and labels. */}}
{{- define "phjob.name" -}}
{{ .Values.nameOverride | default .Chart.Name | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "phjob.fullname" -}}
{{- $name := include "phjob.name" . }}
{{- $full := contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name) }}
{{- .Values.fullnameOverride | default $full | trunc 40 | trimSuffix "-" }}
{{- end }}

{{/* The name prefix of objects without a namespace. */}}
{{- define "phjob.clusterName" -}}
{{ .Release.Namespace }}-{{ include "phjob.fullname" . }}
{{- end }}

{{- define "phjob.jobNamespace" -}}
{{ .Values.jobNamespace | default .Release.Namespace }}
{{- end }}

{{/* The name of an image, by its digest if that is set. Call: (list values defaultTag). */}}
{{- define "phjob.imageOf" -}}
{{- $image := index . 0 }}
{{- if $image.digest }}
{{- printf "%s@%s" $image.repository $image.digest }}
{{- else }}
{{- printf "%s:%s" $image.repository ($image.tag | default (index . 1)) }}
{{- end }}
{{- end }}

{{- define "phjob.image" -}}
{{- include "phjob.imageOf" (list .Values.image .Chart.AppVersion) }}
{{- end }}

{{- define "phjob.selector" -}}
app.kubernetes.io/name: {{ include "phjob.name" . }}
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

{{/*
The mode of the files of a Secret. A file is of root and of the pod's fsGroup. If neither the chart nor the namespace sets
one, only others may read it. A container sees no files of another pod. Call with the values of the pod's security context.
*/}}
{{- define "phjob.secretMode" -}}
{{ kindIs "invalid" .fsGroup | ternary "0444" "0440" }}
{{- end }}

{{/*
The settings file. PrimeHub's names replace the chart's defaults. Its settings for other parts of it are left out, because
they may contain a password.
*/}}
{{- define "phjob.settings" -}}
{{- $jobs := omit .Values.jobSubmission "enabled" "artifact" "monitoring" "smtp" "phfsEnabled" "phfsPVC" }}
{{- $defaults := dict "historyTTLSeconds" 2592000 "historyLimit" 4000 }}
{{- range $theirs, $ours := dict "jobTTLSeconds" "historyTTLSeconds" "jobLimit" "historyLimit" }}
{{- if hasKey $jobs $theirs }}
{{- $given := int64 (get $jobs $ours) }}
{{- if and (ne $given (int64 (get $defaults $ours))) (ne $given (int64 (get $jobs $theirs))) }}
{{- fail (printf "jobSubmission.%s and jobSubmission.%s are the same setting: give one of the two" $theirs $ours) }}
{{- end }}
{{- $jobs = omit $jobs $ours }}
{{- end }}
{{- end }}
{{- toYaml (dict "jobSubmission" $jobs "logArchive" .Values.logArchive) }}
{{- end }}

{{/* The user name of a service's account. Call: (list $ "pod-manager"). */}}
{{- define "phjob.accountUser" -}}
system:serviceaccount:{{ (index . 0).Release.Namespace }}:{{ include "phjob.account" . }}
{{- end }}

{{/* The users that act for every user, as a list in CEL. pod-manager is one, because it deletes old records. */}}
{{- define "phjob.trusted" -}}
{{ prepend .Values.identity.trusted (include "phjob.accountUser" (list . "pod-manager")) | toJson }}
{{- end }}

{{/* The CEL expression of the requester's PrimeHub name. It is empty for a name without the prefix. */}}
{{- define "phjob.requester" -}}
{{- with .Values.identity }}
{{- if and .userName .userNamePrefix }}
{{- fail "identity.userName and identity.userNamePrefix are both set: set one of them" }}
{{- end }}
{{- if .userName }}
{{- .userName }}
{{- else if .userNamePrefix }}
{{- $prefix := .userNamePrefix | toJson -}}
request.userInfo.username.startsWith({{ $prefix }}) ? request.userInfo.username.substring(size({{ $prefix }})) : ""
{{- else -}}
request.userInfo.username
{{- end }}
{{- end }}
{{- end }}

{{/* The metadata of a ValidatingAdmissionPolicy and of its binding. Call: (list $ "identity"). */}}
{{- define "phjob.policyMetadata" -}}
name: {{ include "phjob.clusterName" (index . 0) }}-{{ index . 1 }}
labels: {{- include "phjob.labels" (index . 0) | nindent 2 }}
{{- end }}

{{/* The binding of a policy to the namespace of jobs. Call: (list $ "identity"). */}}
{{- define "phjob.policyBinding" -}}
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {{- include "phjob.policyMetadata" . | nindent 2 }}
spec:
  policyName: {{ include "phjob.clusterName" (index . 0) }}-{{ index . 1 }}
  validationActions: [Deny]
  matchResources:
    namespaceSelector:
      matchLabels:
        kubernetes.io/metadata.name: {{ include "phjob.jobNamespace" (index . 0) }}
{{- end }}

{{/* The rights of a submitter. */}}
{{- define "phjob.submitterRules" -}}
- apiGroups: [primehub.io]
  resources: [phjobs, phgroups, instancetypes, images]
  verbs: [get, list, watch]
- apiGroups: [primehub.io]
  resources: [phjobs]
  verbs: [create, update, patch, delete]
- apiGroups: [""]
  resources: [pods, events]
  verbs: [get, list, watch]
- apiGroups: [""]
  resources: [pods/log]
  verbs: [get]
{{- end }}
