{{/* Name of every namespaced object: the release's, so that two releases do not meet. */}}
{{- define "wavekv-operator.name" -}}
{{- .Release.Name | trunc 53 | trimSuffix "-" -}}
{{- end -}}

{{/* Name of what has no namespace. */}}
{{- define "wavekv-operator.clusterName" -}}
{{- printf "%s:%s" .Release.Namespace (include "wavekv-operator.name" .) -}}
{{- end -}}

{{- define "wavekv-operator.selector" -}}
app.kubernetes.io/name: wavekv-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "wavekv-operator.labels" -}}
{{ include "wavekv-operator.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: wavekv
{{- end -}}

{{- define "wavekv-operator.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "wavekv-operator.name" .) -}}
{{- else -}}
{{- required "serviceAccount.name is required without serviceAccount.create" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* An image; takes (dict "image" … "value" … "root" $). */}}
{{- define "wavekv-operator.image" -}}
{{- $hint := printf "%s.repository is required: no image is published; build both with `make images REGISTRY=…`" .value -}}
{{- printf "%s:%s" (required $hint .image.repository) (.image.tag | default .root.Chart.AppVersion) -}}
{{- end -}}

{{/* What the operator does with the API; the same in a Role and in the ClusterRole. */}}
{{- define "wavekv-operator.rules" -}}
- apiGroups: [wavekv.io]
  resources: [wavekvclusters]
  verbs: [list, watch]
- apiGroups: [wavekv.io]
  resources: [wavekvclusters/status]
  verbs: [patch]
- apiGroups: [apps]
  resources: [statefulsets]
  verbs: [list, watch, create, patch]
- apiGroups: [""]
  resources: [configmaps, secrets]
  verbs: [list, watch, create, patch]
- apiGroups: [""]
  resources: [services]
  verbs: [list, watch, create, patch, delete]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [pods, persistentvolumeclaims]
  verbs: [list, watch]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{- end -}}

{{/*
Which namespaces are served has to be said: the API can limit the right to list Secrets to a namespace, not to names.
*/}}
{{- define "wavekv-operator.scope" -}}
{{- if and .Values.watchNamespaces .Values.watchAllNamespaces -}}
{{- fail "watchNamespaces and watchAllNamespaces exclude each other" -}}
{{- end -}}
{{- if not (or .Values.watchNamespaces .Values.watchAllNamespaces) -}}
{{- fail "say which namespaces are served: --set 'watchNamespaces={shop,…}', or --set watchAllNamespaces=true, with which the operator may read every Secret of the cluster" -}}
{{- end -}}
{{- end -}}

{{/* What the operator does with the API beside namespaces: asks what a token is. It gives no access to anything. */}}
{{- define "wavekv-operator.tokenReviews" -}}
- apiGroups: [authentication.k8s.io]
  resources: [tokenreviews]
  verbs: [create]
{{- end -}}

{{/* Where members are scraped. */}}
{{- define "wavekv-operator.memberNamespaces" -}}
{{- if .Values.watchNamespaces -}}
matchNames: {{- toYaml .Values.watchNamespaces | nindent 2 }}
{{- else -}}
any: true
{{- end -}}
{{- end -}}
