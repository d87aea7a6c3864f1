{{/* Name of everything. */}}
{{- define "phasesync.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* What selects the pods of the daemon: the same as in deploy/kubernetes, and nothing else. A selector never changes. */}}
{{- define "phasesync.selector" -}}
app.kubernetes.io/name: {{ include "phasesync.fullname" . }}
{{- end -}}

{{- define "phasesync.backupSelector" -}}
app.kubernetes.io/name: {{ include "phasesync.fullname" . }}-backup
{{- end -}}

{{/* Labels that every object has beside what selects. */}}
{{- define "phasesync.labels" -}}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "phasesync.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ default $.Chart.AppVersion .tag }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "phasesync.replicas" -}}
{{- if kindIs "invalid" .Values.replicaCount -}}
{{- ternary 2 1 (eq .Values.database.type "postgresql") -}}
{{- else -}}
{{- int .Values.replicaCount -}}
{{- end -}}
{{- end -}}

{{- define "phasesync.serviceAccount" -}}
{{- with .Values.serviceAccount -}}
{{- default (ternary (include "phasesync.fullname" $) "default" .create) .name -}}
{{- end -}}
{{- end -}}

{{- define "phasesync.dataClaim" -}}
{{- default (printf "%s-data" (include "phasesync.fullname" .)) .Values.database.sqlite.existingClaim -}}
{{- end -}}

{{- define "phasesync.backupClaim" -}}
{{- default (printf "%s-backup" (include "phasesync.fullname" .)) .Values.backup.existingClaim -}}
{{- end -}}

{{- define "phasesync.rootKeyClass" -}}
{{- default (printf "%s-root-key" (include "phasesync.fullname" .)) .Values.rootKey.csi.secretProviderClass -}}
{{- end -}}

{{/* Seconds between SIGTERM and SIGKILL: a call in hand gets drain_s, and the end takes up to 2 s more. */}}
{{- define "phasesync.gracePeriod" -}}
{{- if kindIs "invalid" .Values.terminationGracePeriodSeconds -}}
{{- add (int (dig "daemon" "drain_s" 8 .Values.settings)) 12 -}}
{{- else -}}
{{- int .Values.terminationGracePeriodSeconds -}}
{{- end -}}
{{- end -}}

{{/* The variables of one setting or of a table of settings. A list of windows is one text, separated by semicolons. */}}
{{- define "phasesync.settings" -}}
{{- range $name, $value := .table }}
{{- $variable := printf "%s%s" $.prefix (upper $name) }}
{{- if kindIs "map" $value }}
{{- include "phasesync.settings" (dict "prefix" (printf "%s__" $variable) "table" $value) }}
{{- else if not (kindIs "invalid" $value) }}
- name: {{ $variable }}
  {{- if kindIs "slice" $value }}
  value: {{ join "; " $value | quote }}
  {{- else if kindIs "float64" $value }}
  value: {{ int64 $value | quote }}
  {{- else }}
  value: {{ $value | quote }}
  {{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{/* The variables of both containers. */}}
{{- define "phasesync.env" -}}
{{- if eq .Values.database.type "sqlite" }}
- name: PHASESYNC_DATA_DIR
  value: /var/lib/phasesync
{{- else }}
- name: PHASESYNC_DATABASE_URL
  valueFrom:
    secretKeyRef:
      name: {{ .Values.database.postgresql.secretName }}
      key: {{ .Values.database.postgresql.secretKey }}
{{- end }}
{{- if ne .Values.rootKey.source "kms" }}
- name: PHASESYNC_ROOT_KEY_FILE
  value: /run/secrets/phasesync/{{ ternary .Values.rootKey.secret.key .Values.rootKey.csi.file (eq .Values.rootKey.source "secret") }}
{{- end }}
{{- with .Values.rootKey.kms.keyArn }}
- name: PHASESYNC_ROOT_KEY_KMS_KEY
  value: {{ . }}
{{- end }}
{{- with .Values.rootKey.kms.nextKeyArn }}
- name: PHASESYNC_ROOT_KEY_KMS_KEY_NEXT
  value: {{ . }}
{{- end }}
# Probes come from the node, so loopback is not enough here.
- name: PHASESYNC_HTTP__LISTEN
  value: 0.0.0.0:8787
{{- include "phasesync.settings" (dict "prefix" "PHASESYNC_" "table" .Values.settings) }}
{{- with .Values.aws.region }}
- name: AWS_REGION
  value: {{ . }}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "phasesync.volumeMounts" -}}
{{- if eq .Values.database.type "sqlite" }}
- name: data
  mountPath: /var/lib/phasesync
{{- end }}
{{- if ne .Values.rootKey.source "kms" }}
- name: root-key
  mountPath: /run/secrets/phasesync
  readOnly: true
{{- end }}
- name: tmp
  mountPath: /tmp
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Whether the pods may have an identity of AWS. One of their node they never have: the NetworkPolicy keeps it from them. */}}
{{- define "phasesync.hasIdentity" -}}
{{- if or (ne .Values.aws.identity "none") (not .Values.serviceAccount.create) .Values.serviceAccount.annotations -}}
true
{{- else -}}
{{- range .Values.extraEnv -}}
{{- if hasPrefix "AWS_" .name -}}true{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Values that each are right, and wrong together. The message names the value to set. */}}
{{- define "phasesync.check" -}}
{{- $sqlite := eq .Values.database.type "sqlite" -}}
{{- if eq .Values.image.tag "latest" -}}
{{- fail "\n\nimage.tag=latest could change the release with any restart: name a release, or image.digest" -}}
{{- end -}}
{{- range $value, $labels := dict "podLabels" .Values.podLabels "metrics.labels" .Values.metrics.labels -}}
{{- range list "name" "instance" "managed-by" "version" -}}
{{- if hasKey $labels (printf "app.kubernetes.io/%s" .) -}}
{{- fail (printf "\n\n%s has app.kubernetes.io/%s, which the chart sets: leave it out" $value .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if hasKey .Values.podAnnotations "kubectl.kubernetes.io/default-container" -}}
{{- fail "\n\npodAnnotations has kubectl.kubernetes.io/default-container, which the chart sets: leave it out" -}}
{{- end -}}
{{- range .Values.extraEnv -}}
{{- if and (eq .name "AWS_REGION") $.Values.aws.region -}}
{{- fail "\n\nextraEnv has AWS_REGION, and aws.region is set: leave one of them out" -}}
{{- end -}}
{{- if eq .name "PHASESYNC_ROOT_KEY" -}}
{{- fail "\n\nextraEnv has PHASESYNC_ROOT_KEY: a variable is seen by more than a file. Name the Secret with rootKey.secret.name" -}}
{{- else if eq .name "PHASESYNC_ROOT_KEY_NEXT" -}}
{{- fail "\n\nextraEnv has PHASESYNC_ROOT_KEY_NEXT: a variable is seen by more than a file. Put the next root key beside the present one, with .next behind its name" -}}
{{- else if hasPrefix "PHASESYNC_ROOT_KEY_KMS_KEY" .name -}}
{{- fail (printf "\n\nextraEnv has %s: KMS keys are named with rootKey.kms.keyArn and rootKey.kms.nextKeyArn" .name) -}}
{{- else if and (hasPrefix "PHASESYNC_" .name) (not .valueFrom) (not (has .name (list "PHASESYNC_CONFIG" "PHASESYNC_ACTOR"))) -}}
{{- fail (printf "\n\nextraEnv has %s: what can be set is under settings; a secret has valueFrom.secretKeyRef" .name) -}}
{{- end -}}
{{- end -}}
{{- if and $sqlite (gt (int (include "phasesync.replicas" .)) 1) -}}
{{- fail "\n\nSQLite is for one pod: set replicaCount=1, or database.type=postgresql" -}}
{{- end -}}
{{- if and $sqlite (eq (dig "daemon" "dispatch" "threads" .Values.settings) "procrastinate") -}}
{{- fail "\n\nsettings.daemon.dispatch=procrastinate needs database.type=postgresql" -}}
{{- end -}}
{{- if and (eq .Values.aws.identity "irsa") (not .Values.aws.roleArn) -}}
{{- fail "\n\naws.identity=irsa needs aws.roleArn, such as arn:aws:iam::111122223333:role/phasesync" -}}
{{- end -}}
{{- if and .Values.aws.roleArn (ne .Values.aws.identity "irsa") -}}
{{- fail "\n\naws.roleArn is for aws.identity=irsa; with pod-identity the association names the role" -}}
{{- end -}}
{{- if and (eq .Values.aws.identity "irsa") (not .Values.serviceAccount.create) -}}
{{- fail "\n\naws.identity=irsa annotates the service account of the chart: set serviceAccount.create=true, or aws.identity=none and annotate yours" -}}
{{- end -}}
{{- with .Values.rootKey -}}
{{- if and (eq .source "csi") (not .csi.secretProviderClass) (not .csi.awsSecretArn) -}}
{{- fail "\n\nrootKey.source=csi needs rootKey.csi.secretProviderClass, or rootKey.csi.awsSecretArn for one that the chart makes" -}}
{{- end -}}
{{- if and .csi.awsNextSecretArn (not .csi.awsSecretArn) -}}
{{- fail "\n\nrootKey.csi.awsNextSecretArn is for a SecretProviderClass that the chart makes: add the next root key to yours, with .next behind the name of its file" -}}
{{- end -}}
{{- if and (eq .source "kms") (not .kms.keyArn) -}}
{{- fail "\n\nrootKey.source=kms needs rootKey.kms.keyArn, such as arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab" -}}
{{- end -}}
{{- if and .kms.nextKeyArn (not .kms.keyArn) -}}
{{- fail "\n\nrootKey.kms.nextKeyArn is for a rotation from one KMS key to another: a KMS key that takes the place of a file is rootKey.kms.keyArn" -}}
{{- end -}}
{{- if and .kms.keyArn (not (include "phasesync.hasIdentity" $)) -}}
{{- fail "\n\nrootKey.kms.keyArn needs an identity of AWS for the pods: set aws.identity; or with one of your own serviceAccount.annotations, serviceAccount.create=false, or AWS_… variables in extraEnv" -}}
{{- end -}}
{{- if and .csi.secretProviderClass .csi.awsSecretArn -}}
{{- fail "\n\nrootKey.csi.awsSecretArn is for a SecretProviderClass that the chart makes: leave it out, or rootKey.csi.secretProviderClass" -}}
{{- end -}}
{{- end -}}
{{- if and $sqlite .Values.backup.enabled (eq .Values.database.sqlite.accessMode "ReadWriteOncePod") -}}
{{- fail "\n\nbackup.enabled needs a volume that two pods of one node can use: set database.sqlite.accessMode=ReadWriteOnce" -}}
{{- end -}}
{{- if gt (int (include "phasesync.replicas" .)) 1 -}}
{{- if and .Values.podDisruptionBudget.enabled (ge (int .Values.podDisruptionBudget.minAvailable) (int (include "phasesync.replicas" .))) -}}
{{- fail "\n\npodDisruptionBudget.minAvailable has to be less than replicaCount: otherwise no node can be drained" -}}
{{- end -}}
{{- end -}}
{{- if le (int (include "phasesync.gracePeriod" .)) (add (int (dig "daemon" "drain_s" 8 .Values.settings)) 2 | int) -}}
{{- fail "\n\nterminationGracePeriodSeconds has to be more than settings.daemon.drain_s (8) and 2 s: otherwise a call in hand is cut off" -}}
{{- end -}}
{{- end -}}
