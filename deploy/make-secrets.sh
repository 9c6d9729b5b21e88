#!/usr/bin/env bash
# Makes the passwords of a fleet in deploy/secrets, once: files for compose.yaml, and secrets.env for Kubernetes.
# HOST names are those of compose.yaml and of deploy/kubernetes/stores.yaml, which are the same.
set -euo pipefail
cd "$(dirname "$0")"
if [ -e secrets ]; then
    echo "deploy/secrets is here already; remove it to make new passwords." >&2
    exit 1
fi
password() { head -c 24 /dev/urandom | od -An -tx1 | tr -d ' \n'; }
postgres=$(password)
redis=$(password)
qdrant=$(password)
# Only its owner enters the folder; its files must be readable by the user that runs inside the containers.
mkdir -m 0700 secrets
umask 022
printf %s "$postgres" >secrets/postgres_password
printf %s "$redis" >secrets/redis_password
printf %s "$qdrant" >secrets/atomas_qdrant_api_key
printf %s "$(password)" >secrets/grafana_password
printf %s "postgresql://atomas:$postgres@postgres:5432/atomas" >secrets/atomas_database_url
printf %s "redis://:$redis@redis:6379/0" >secrets/atomas_broker_url
{
    echo "postgres-password=$postgres"
    echo "redis-password=$redis"
    echo "ATOMAS_QDRANT_API_KEY=$qdrant"
    echo "ATOMAS_DATABASE_URL=postgresql://atomas:$postgres@postgres:5432/atomas"
    echo "ATOMAS_BROKER_URL=redis://:$redis@redis:6379/0"
} >secrets/secrets.env
echo "Made deploy/secrets. Keep it out of backups that others read."
