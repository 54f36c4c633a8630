# One host runs docker-compose.yml, with the database of RDS and models and reports in S3.

data "aws_ec2_instance_type" "host" {
  count = local.aws

  instance_type = var.instance_type
}

data "aws_ssm_parameter" "ami" {
  count = local.aws

  name = join("-", [
    "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default",
    contains(data.aws_ec2_instance_type.host[0].supported_architectures, "arm64") ? "arm64" : "x86_64",
  ])
}

resource "aws_instance" "host" {
  count = local.aws

  ami                    = data.aws_ssm_parameter.ami[0].value
  instance_type          = var.instance_type
  subnet_id              = aws_subnet.private[0].id
  vpc_security_group_ids = [aws_security_group.host[0].id]
  iam_instance_profile   = aws_iam_instance_profile.host[0].name
  ebs_optimized          = true
  monitoring             = true

  metadata_options {
    http_tokens = "required"
    # Containers are one hop further away, and get no role of the host's: host/refresh gives MLflow one for its files.
    http_put_response_hop_limit = 1
  }

  root_block_device {
    volume_type = "gp3"
    volume_size = 60
    encrypted   = true
    kms_key_id  = aws_kms_key.this.arn
  }

  user_data_replace_on_change = true
  user_data = templatefile("${path.module}/user-data.sh.tftpl", {
    region           = var.region
    name             = var.name
    image            = var.image
    database_host    = aws_db_instance.this[0].address
    database_user    = local.database_user
    files_role       = aws_iam_role.files[0].arn
    telegram_chat_id = var.telegram_chat_id
    log_group        = aws_cloudwatch_log_group.this[0].name
  })

  depends_on = [aws_s3_object.host, aws_iam_role_policy.host]

  lifecycle {
    # A new AMI comes out every few weeks; it is taken when the host is replaced anyway.
    ignore_changes = [ami]
  }

  tags = { Name = var.name }
}
