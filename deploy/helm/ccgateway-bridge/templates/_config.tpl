{{- /* Sets a key of nested maps, unless it is there: in (a map), path (its keys), value. */ -}}
{{- define "ccgateway-bridge.preset" -}}
{{- $table := .in -}}
{{- range initial .path -}}
{{- if not (hasKey $table .) }}{{ $_ := set $table . dict }}{{ end -}}
{{- $table = get $table . -}}
{{- end -}}
{{- if not (hasKey $table (last .path)) }}{{ $_ := set $table (last .path) .value }}{{ end -}}
{{- end }}

{{- /* config with what the chart knows by itself, as JSON. */ -}}
{{- define "ccgateway-bridge.config" -}}
{{- $config := deepCopy .Values.config -}}
{{- $presets := list -}}
{{- with .Values.tls -}}
{{- if ne .mode "none" -}}
{{- $presets = append $presets (list "listeners.default.tls.certificate_file" "server-tls/tls.crt") -}}
{{- $presets = append $presets (list "listeners.default.tls.key_file" "server-tls/tls.key") -}}
{{- if ne .clientCertificates "none" -}}
{{- $presets = append $presets (list "listeners.default.tls.client_ca_file" "server-tls/ca.crt") -}}
{{- end -}}
{{- if eq .clientCertificates "optional" -}}
{{- $presets = append $presets (list "listeners.default.tls.client_certificates" "optional") -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- with .Values.store -}}
{{- if ne .kind "memory" -}}
{{- $presets = append $presets (list "store.encryption_key_files" (list "store/session.key")) -}}
{{- end -}}
{{- if eq .kind "file" -}}
{{- $presets = append $presets (list "store.file" "/var/lib/ccgateway-bridge/sessions.redb") -}}
{{- end -}}
{{- if and (eq .kind "redis") .redis.password -}}
{{- $presets = append $presets (list "store.password_file" "store/password") -}}
{{- end -}}
{{- if and (eq .kind "redis") .redis.ca -}}
{{- $presets = append $presets (list "store.tls.ca_file" "store/ca.pem") -}}
{{- end -}}
{{- end -}}
{{- with .Values.serviceAccountTokens -}}
{{- if .enabled -}}
{{- $mounted := "/var/run/secrets/kubernetes.io/serviceaccount" -}}
{{- $presets = append $presets (list "issuers.kubernetes.issuer" .issuer) -}}
{{- $presets = append $presets (list "issuers.kubernetes.audiences" (list .audience)) -}}
{{- $presets = append $presets (list "issuers.kubernetes.jwks_url" .jwksUrl) -}}
{{- $presets = append $presets (list "issuers.kubernetes.jwks_ca_file" (printf "%s/ca.crt" $mounted)) -}}
{{- $presets = append $presets (list "issuers.kubernetes.jwks_token_file" (printf "%s/token" $mounted)) -}}
{{- end -}}
{{- end -}}
{{- include "ccgateway-bridge.presets" (dict "in" $config "presets" $presets) -}}
{{- if .Values.callInPod -}}
{{- include "ccgateway-bridge.presetCallInPod" $config -}}
{{- end -}}
{{- toJson $config -}}
{{- end }}

{{- define "ccgateway-bridge.presets" -}}
{{- range .presets -}}
{{- include "ccgateway-bridge.preset" (dict "in" $.in "path" (splitList "." (first .)) "value" (last .)) -}}
{{- end -}}
{{- end }}

{{- /* Whether the listener of a configuration asks callers for a certificate or a token. */ -}}
{{- define "ccgateway-bridge.asks" -}}
{{- $default := dig "listeners" "default" dict . -}}
{{- $tokens := and .issuers (or $default.issuers (not (hasKey $default "issuers"))) -}}
{{- if or (dig "tls" "client_ca_file" "" $default) $tokens -}}
true
{{- end -}}
{{- end }}

{{- /*
A listener for "call" in the pod, where the other one asks who calls. Without rules whoever calls there might do
everything, and a rule would be the only one.
*/ -}}
{{- define "ccgateway-bridge.presetCallInPod" -}}
{{- $anonymous := dig "listeners" "default" "allow_anonymous" false . -}}
{{- if and .callers (include "ccgateway-bridge.asks" .) (not $anonymous) -}}
{{- $presets := list (list "listeners.default.address" "[::]:50051") -}}
{{- $presets = append $presets (list "listeners.pod.address" "127.0.0.1:50052") -}}
{{- $presets = append $presets (list "listeners.pod.allow_anonymous" true) -}}
{{- $presets = append $presets (list "callers.pod.principals" (list "anonymous")) -}}
{{- $presets = append $presets (list "callers.pod.tenants" (list "*")) -}}
{{- $presets = append $presets (list "callers.pod.rights" (list "read")) -}}
{{- include "ccgateway-bridge.presets" (dict "in" . "presets" $presets) -}}
{{- end -}}
{{- end }}

{{- /* A value of TOML that is no table. JSON's texts are TOML's too. Helm makes floats of all numbers. */ -}}
{{- define "ccgateway-bridge.tomlValue" -}}
{{- if kindIs "slice" . -}}
[{{ range $place, $each := . }}{{ if $place }}, {{ end }}{{ include "ccgateway-bridge.tomlValue" $each }}{{ end }}]
{{- else if kindIs "string" . -}}
{{ toRawJson . }}
{{- else if kindIs "float64" . -}}
{{ if eq . (floor .) }}{{ int64 . }}{{ else }}{{ . }}{{ end }}
{{- else -}}
{{ . }}
{{- end -}}
{{- end }}

{{- define "ccgateway-bridge.tomlKey" -}}
{{- if regexMatch "^[A-Za-z0-9_-]+$" . }}{{ . }}{{ else }}{{ toRawJson . }}{{ end -}}
{{- end }}

{{- /* A table of TOML, and those in it: path (as TOML writes it), table. */ -}}
{{- define "ccgateway-bridge.toml" -}}
{{- $path := .path -}}
{{- $table := .table -}}
{{- range $key, $value := $table -}}
{{- if not (or (kindIs "map" $value) (kindIs "invalid" $value)) -}}
{{ include "ccgateway-bridge.tomlKey" $key }} = {{ include "ccgateway-bridge.tomlValue" $value }}
{{ end -}}
{{- end -}}
{{- range $key, $value := $table -}}
{{- if kindIs "map" $value -}}
{{- $below := include "ccgateway-bridge.tomlKey" $key -}}
{{- if $path }}{{ $below = printf "%s.%s" $path $below }}{{ end -}}
{{- /* A table of tables needs no line of its own. */ -}}
{{- $needed := not $value -}}
{{- range $value }}{{ if not (kindIs "map" .) }}{{ $needed = true }}{{ end }}{{ end }}
{{- if $needed }}
[{{ $below }}]
{{ end -}}
{{- include "ccgateway-bridge.toml" (dict "path" $below "table" $value) -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "ccgateway-bridge.bridgeToml" -}}
{{- $config := include "ccgateway-bridge.config" . | fromJson -}}
{{- include "ccgateway-bridge.toml" (dict "path" "" "table" $config) | trim -}}
{{- end }}

{{- /* Where "call" in the pod reaches the bridge, if that is not where it goes by itself. */ -}}
{{- define "ccgateway-bridge.callAddress" -}}
{{- if .Values.callInPod -}}
{{- include "ccgateway-bridge.config" . | fromJson | dig "listeners" "pod" "address" "" -}}
{{- end -}}
{{- end }}

{{- /* A changed configuration is a new name, so the Deployment rolls out, and a rollback brings it back. */ -}}
{{- define "ccgateway-bridge.configMap" -}}
{{- $name := include "ccgateway-bridge.name" . -}}
{{- if .Values.rolloutOnConfigChange -}}
{{ printf "%s-%s" $name (include "ccgateway-bridge.bridgeToml" . | sha256sum | trunc 10) }}
{{- else -}}
{{ $name }}
{{- end -}}
{{- end }}

{{- /* Where the files of a folder come from: a source of a projected volume, without its items. */ -}}
{{- define "ccgateway-bridge.source" -}}
{{- $name := include "ccgateway-bridge.name" .root -}}
{{- with .root.Values -}}
{{- if and (eq $.folder "server-tls") (ne .tls.mode "none") -}}
secret:
  name: {{ include "ccgateway-bridge.tlsSecret" $.root }}
{{- else if hasKey .secrets $.folder -}}
secret:
  name: {{ get .secrets $.folder | default (printf "%s-%s" $name $.folder) }}
{{- else if hasKey .configMaps $.folder -}}
configMap:
  name: {{ get .configMaps $.folder | default (printf "%s-%s" $name $.folder) }}
{{- end -}}
{{- end -}}
{{- end }}

{{- /* The files that bridge.toml names, as sources of a projected volume. */ -}}
{{- define "ccgateway-bridge.sources" -}}
{{- $folders := dict -}}
{{- range $line := regexFindAll "(?m)^\\w+_files? = .*$" (include "ccgateway-bridge.bridgeToml" .) -1 -}}
{{- range $quoted := regexFindAll "\"[^\"]+\"" $line -1 -}}
{{- $file := trimAll "\"" $quoted -}}
{{- if not (hasPrefix "/" $file) -}}
{{- $parts := splitList "/" $file -}}
{{- if ne (len $parts) 2 -}}
{{- fail (printf "config: %s: a file is named as FOLDER/KEY, with a Secret for the folder in secrets, or a ConfigMap in configMaps" $line) -}}
{{- end -}}
{{- if not (include "ccgateway-bridge.source" (dict "root" $ "folder" (first $parts))) -}}
{{- fail (printf "config: %s: %s is in neither secrets nor configMaps" $line (first $parts)) -}}
{{- end -}}
{{- $_ := set $folders (first $parts) (append (get $folders (first $parts) | default list) (last $parts)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $folder, $keys := $folders }}
- {{ include "ccgateway-bridge.source" (dict "root" $ "folder" $folder) | indent 2 | trim }}
    items:
      {{- range $keys | uniq | sortAlpha }}
      - key: {{ . }}
        path: {{ $folder }}/{{ . }}
      {{- end }}
{{- end -}}
{{- end }}
