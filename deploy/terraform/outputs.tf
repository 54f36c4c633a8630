output "buckets" {
  description = "Names of the buckets."
  value       = { for name, bucket in aws_s3_bucket.this : name => bucket.bucket }
}

output "open_dagster" {
  description = "Opens the Dagster UI of the host on this machine's port 3000; the other UIs in the same way."
  value = var.localstack ? null : join(" ", [
    "aws ssm start-session --region ${var.region} --target ${aws_instance.host[0].id}",
    "--document-name AWS-StartPortForwardingSession --parameters portNumber=3000,localPortNumber=3000",
  ])
}
