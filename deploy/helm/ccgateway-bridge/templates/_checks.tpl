{{- /* What the schema cannot tell: values that do not go together. */ -}}
{{- define "ccgateway-bridge.check" -}}
{{- $config := .Values.config -}}
{{- if not $config.tenants -}}
{{- fail "config.tenants: at least one tenant is needed" -}}
{{- end -}}
{{- range $part, $value := dict "delay" "delaySeconds" "timeout" "timeoutSeconds" -}}
{{- if hasKey (dig "server" "drain" dict $config) $part -}}
{{- fail (printf "config.server.drain.%s: set drain.%s instead, which the pod's grace period goes by" $part $value) -}}
{{- end -}}
{{- end -}}
{{- with .Values.store -}}
{{- if and (ne .kind "redis") (or (gt (int $.Values.replicaCount) 1) $.Values.autoscaling.enabled) -}}
{{- fail (printf "store.kind: several replicas share sessions through Redis only, not with %q: set store.kind to redis, or replicaCount to 1 and autoscaling.enabled to false" .kind) -}}
{{- end -}}
{{- if and (eq .kind "redis") (not (dig "store" "urls" "" $config)) -}}
{{- fail "config.store.urls: with store.kind redis the bridge has to know where Redis is" -}}
{{- end -}}
{{- range $key, $kind := dict "file" "file" "urls" "redis" -}}
{{- if and (hasKey ($config.store | default dict) $key) (ne $.Values.store.kind $kind) -}}
{{- fail (printf "config.store.%s: this is for store.kind %s, not for %s" $key $kind $.Values.store.kind) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- with .Values.autoscaling -}}
{{- if and .enabled (gt (int .minReplicas) (int .maxReplicas)) -}}
{{- fail "autoscaling.minReplicas: more than autoscaling.maxReplicas" -}}
{{- end -}}
{{- end -}}
{{- with .Values.tls -}}
{{- if and (eq .mode "certManager") (not .issuerRef.name) -}}
{{- fail "tls.issuerRef.name: which issuer makes the certificate? Without cert-manager, set tls.mode to secret, or to none" -}}
{{- end -}}
{{- end -}}
{{- with .Values.grpcRoute -}}
{{- if .enabled -}}
{{- if not .parentRefs -}}
{{- fail "grpcRoute.parentRefs: which Gateway is the route for?" -}}
{{- end -}}
{{- if ne $.Values.tls.mode "none" -}}
{{- if eq $.Values.tls.clientCertificates "required" -}}
{{- fail "tls.clientCertificates: callers who come through a Gateway cannot show a certificate; set it to optional or none, and let them show tokens" -}}
{{- end -}}
{{- if not .caConfigMap -}}
{{- fail "grpcRoute.caConfigMap: by which CA does the Gateway know the bridge?" -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $made := include "ccgateway-bridge.config" . | fromJson -}}
{{- if and (include "ccgateway-bridge.asks" $made) (not $made.callers) -}}
{{- fail "config.callers: callers have to show who they are, but there are no rules on what they may do" -}}
{{- end -}}
{{- end }}
