output "buckets" {
  description = "Names of the buckets."
  value       = { for name, bucket in aws_s3_bucket.this : name => bucket.bucket }
}

output "region" {
  description = "For make-role.sh, as the next three."
  value       = var.region
}

output "host" {
  description = "The host's id."
  value       = one(aws_instance.host[*].id)
}

output "database" {
  description = "The database's address, which only the host reaches."
  value       = one(aws_db_instance.this[*].address)
}

output "master_secret" {
  description = "Where RDS keeps the master user's password."
  value       = one(aws_db_instance.this[*].master_user_secret[0].secret_arn)
}

output "open_dagster" {
  description = "Opens the Dagster UI of the host on this machine's port 3000; the other UIs in the same way."
  value = var.localstack ? null : join(" ", [
    "aws ssm start-session --region ${var.region} --target ${aws_instance.host[0].id}",
    "--document-name AWS-StartPortForwardingSession --parameters portNumber=3000,localPortNumber=3000",
  ])
}
