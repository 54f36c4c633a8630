#!/bin/sh
# usage: make-broker.sh HOST FOLDER     makes what Celery's broker on HOST runs with: redis-server FOLDER/redis.conf
#
# It takes TLS connections with a password and no others. Other machines need FOLDER/ca.crt, and the URL in FOLDER/url, which
# holds the password. The key that signed the certificate is not kept: a folder is made anew as a whole.
set -eu
host=$1 folder=$2
umask 077
mkdir "$folder"
folder=$(cd "$folder" && pwd)
cd "$folder"

case $host in
*[!0-9.]*) name=DNS:$host ;;
*) name=IP:$host ;;
esac
password=$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout ca.key -out ca.crt -days 3650 \
    -subj "/CN=txwatch broker's authority" 2>/dev/null
openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout broker.key -out broker.csr \
    -subj "/CN=$host" 2>/dev/null
printf 'subjectAltName=%s\nextendedKeyUsage=serverAuth\n' "$name" >broker.ext
openssl x509 -req -in broker.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out broker.crt -days 3650 \
    -extfile broker.ext 2>/dev/null
rm -f ca.key ca.srl broker.csr broker.ext

cat >redis.conf <<CONF
port 0
tls-port 6379
tls-cert-file $folder/broker.crt
tls-key-file $folder/broker.key
tls-ca-cert-file $folder/ca.crt
tls-auth-clients no
requirepass $password
# What is under way, which run monitoring launches again if it is lost: nothing is written, and nothing is given up.
save ""
appendonly no
maxmemory 256mb
maxmemory-policy noeviction
dir $folder
CONF
echo "rediss://:$password@$host:6379/1?ssl_cert_reqs=required&ssl_ca_certs=$folder/ca.crt" >url
echo "made $folder: run redis-server $folder/redis.conf"
