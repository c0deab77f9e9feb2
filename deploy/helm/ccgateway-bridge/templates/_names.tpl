{{- define "ccgateway-bridge.name" -}}
{{- if .Values.fullnameOverride -}}
{{ .Values.fullnameOverride }}
{{- else if contains .Chart.Name .Release.Name -}}
{{ .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" }}
{{- end -}}
{{- end }}

{{- define "ccgateway-bridge.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "ccgateway-bridge.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{ include "ccgateway-bridge.selector" . }}
{{- with .Values.labels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* What every object has; "labels" and "annotations" are more of them. */ -}}
{{- define "ccgateway-bridge.metadata" -}}
name: {{ .name | default (include "ccgateway-bridge.name" .root) }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "ccgateway-bridge.labels" .root | nindent 2 }}
  {{- with .labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "ccgateway-bridge.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "ccgateway-bridge.account" -}}
{{ .Values.serviceAccount.name | default (include "ccgateway-bridge.name" .) }}
{{- end }}

{{- define "ccgateway-bridge.claim" -}}
{{ .Values.store.volume.existingClaim | default (printf "%s-sessions" (include "ccgateway-bridge.name" .)) }}
{{- end }}

{{- define "ccgateway-bridge.tlsSecret" -}}
{{ .Values.tls.secretName | default (printf "%s-tls" (include "ccgateway-bridge.name" .)) }}
{{- end }}

{{- define "ccgateway-bridge.priorityClass" -}}
{{- if .Values.priorityClass.name -}}
{{ .Values.priorityClass.name }}
{{- else if .Values.priorityClass.create -}}
{{ include "ccgateway-bridge.name" . }}
{{- end -}}
{{- end }}

{{- /* By which names callers know the bridge. */ -}}
{{- define "ccgateway-bridge.hosts" -}}
{{- $name := include "ccgateway-bridge.name" . -}}
- {{ $name }}
- {{ $name }}.{{ .Release.Namespace }}
- {{ $name }}.{{ .Release.Namespace }}.svc
- {{ $name }}.{{ .Release.Namespace }}.svc.{{ .Values.clusterDomain }}
{{- with .Values.tls.dnsNames }}
{{ toYaml . }}
{{- end }}
{{- end }}
