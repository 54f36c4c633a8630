#!/bin/sh
# Makes the secrets that docker-compose.yml reads, each in a file of its own, and leaves those that are there alone.
# The folder is closed to others; the files are not, for a container's user must read them.
set -eu
folder=${1:-"$(dirname "$0")/../secrets"}
mkdir -p "$folder"
chmod 0700 "$folder"

random() {
    od -An -N24 -tx1 /dev/urandom | tr -d ' \n'
}

make() {
    if [ ! -e "$folder/$1" ]; then
        printf '%s\n' "$2" >"$folder/$1"
        chmod 0644 "$folder/$1"
        echo "made $folder/$1"
    fi
}

make postgres_password "$(random)"
for service in code webserver daemon mlflow api dashboard bot; do
    make "database_$service" "$(random)"
done
make grafana_password "$(random)"
make api_key "$(random)"
# Empty: alerts stay in the dashboard. Put the bot's token here, or set TELEGRAM_BOT_TOKEN in .env.
make telegram_bot_token ""
# Addresses that Alertmanager posts to: that of a person's alarms, and that of a service which misses a heartbeat.
make alarm_webhook ""
make heartbeat_webhook ""
for name in alarm_webhook heartbeat_webhook; do
    [ -s "$folder/$name" ] && [ -n "$(tr -d '[:space:]' <"$folder/$name")" ] || echo "$folder/$name is empty: see Alarms in docs/operations.md"
done
