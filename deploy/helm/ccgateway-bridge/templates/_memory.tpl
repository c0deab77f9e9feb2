{{- /* How much memory sessions of all tenants on one replica take, in MiB: docs/running/capacity.md. */ -}}
{{- define "ccgateway-bridge.neededMemory" -}}
{{- $sessions := 0 -}}
{{- $events := ternary 16 8 (eq .Values.store.kind "redis") -}}
{{- $tenants := .Values.config.tenants | default dict -}}
{{- range $tenants -}}
{{- $sessions = add $sessions (dig "limits" "sessions" 10000 . | int64) -}}
{{- end -}}
{{- /* 45 KiB each, rounded up. */ -}}
{{- add 104 (mul $events (len $tenants)) (div (add (mul 45 $sessions) 1023) 1024) -}}
{{- end }}

{{- /* resources, with what is not said of memory. */ -}}
{{- define "ccgateway-bridge.resources" -}}
{{- $resources := deepCopy .Values.resources -}}
{{- $needed := include "ccgateway-bridge.neededMemory" . | int64 -}}
{{- $memory := printf "%dMi" (mul 128 (div (add $needed 127) 128)) -}}
{{- include "ccgateway-bridge.preset" (dict "in" $resources "path" (list "limits" "memory") "value" $memory) -}}
{{- include "ccgateway-bridge.preset" (dict "in" $resources "path" (list "requests" "memory") "value" $resources.limits.memory) -}}
{{- toYaml $resources -}}
{{- end }}
