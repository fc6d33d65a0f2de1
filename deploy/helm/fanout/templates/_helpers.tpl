{{- define "fanout.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 50 | trimSuffix "-" }}
{{- end }}

{{- define "fanout.fullname" -}}
{{- $name := include "fanout.name" . }}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else if contains $name .Release.Name }}
{{- .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "fanout.selector" -}}
app.kubernetes.io/name: {{ include "fanout.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "fanout.labels" -}}
{{ include "fanout.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "fanout.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}{{ .Values.serviceAccount.name | default (include "fanout.fullname" .) }}
{{- else }}{{ .Values.serviceAccount.name | default "default" }}{{ end }}
{{- end }}

{{- define "fanout.image" -}}
{{- $repository := required "image.repository: no registry has an image of fanout. Build one and push it (docs/kubernetes.md), then --set image.repository=REGISTRY/fanout" .Values.image.repository }}
{{- if .Values.image.digest }}{{ $repository }}@{{ .Values.image.digest }}
{{- else }}{{ $repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ end }}
{{- end }}

{{- define "fanout.secret" -}}
{{- required "secret.name: the pods listen for others, so they need a token: kubectl create secret generic fanout --from-literal=admin-token=$(openssl rand -hex 32), then --set secret.name=fanout" .Values.secret.name }}
{{- end }}

{{/* The peers of a rule of the network policy: name, what they are, list. A rule without peers would be open to everybody. */}}
{{- define "fanout.named" -}}
{{- if not (index . 2) }}
{{- fail (printf "networkPolicy.%s: say %s, as in [{ipBlock: {cidr: 10.1.0.0/16}}] or [{namespaceSelector: {}}]; with networkPolicy.enabled=false there is no policy" (index . 0) (index . 1)) }}
{{- end }}
{{- toYaml (index . 2) }}
{{- end }}

{{/* fanout.yaml: what the values say, and what the chart says of the pod. */}}
{{- define "fanout.config" -}}
{{- $pod := dict
  "admin" (dict "listen" ":8080")
  "redis" (dict "snapshot_file" "/var/lib/fanout/subscriptions")
  "shutdown_timeout" (printf "%ds" (int .Values.shutdownTimeoutSeconds)) }}
{{- mustMergeOverwrite (deepCopy .Values.config) $pod | toYaml }}
{{- end }}

{{/* The ports of Kafka and Redis, as a JSON list: those in config, where none is given the usual ones. */}}
{{- define "fanout.dependencyPorts" -}}
{{- $ports := list }}
{{- range .Values.config.kafka.brokers }}
{{- $ports = append $ports (regexFind "[0-9]+$" . | default "9092" | int) }}
{{- end }}
{{- $redis := list }}
{{- range regexFindAll ":[0-9]+([/,?]|$)" (((.Values.config.redis).url) | default "") -1 }}
{{- $redis = append $redis (regexFind "[0-9]+" . | int) }}
{{- end }}
{{- $ports = concat $ports ($redis | default (list 6379)) }}
{{- range .Values.networkPolicy.dependencyPorts }}
{{- $ports = append $ports (int .) }}
{{- end }}
{{- $ports | uniq | toJson }}
{{- end }}
