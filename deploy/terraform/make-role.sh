#!/bin/bash
# Makes the application's role in the database, once after `terraform apply`, from the machine of whoever applied it: with
# their own right to read the master user's secret, through the host, which never sees it. Needs terraform, aws with the
# Session Manager plugin, jq and psql.
set -euo pipefail
cd "$(dirname "$0")"
output() { terraform output -raw "$1"; }
region=$(output region) port=${PORT:-15432}

aws ssm start-session --region "$region" --target "$(output host)" \
  --document-name AWS-StartPortForwardingSessionToRemoteHost \
  --parameters "host=$(output database),portNumber=5432,localPortNumber=$port" >/dev/null &
tunnel=$!
trap 'kill "$tunnel"' EXIT
until (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do
  kill -0 "$tunnel"
  sleep 1
done

master=$(aws secretsmanager get-secret-value --region "$region" --secret-id "$(output master_secret)" --query SecretString --output text)
PGUSER=$(jq --raw-output .username <<<"$master") PGPASSWORD=$(jq --raw-output .password <<<"$master")
export PGUSER PGPASSWORD
psql --no-psqlrc --set ON_ERROR_STOP=1 --quiet --file role.sql "host=127.0.0.1 port=$port dbname=txwatch sslmode=require"
echo "The role is made. The host tries again within a minute."
