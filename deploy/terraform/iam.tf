data "aws_iam_policy_document" "assumed_by" {
  for_each = { host = "ec2.amazonaws.com", database = "monitoring.rds.amazonaws.com" }

  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = [each.value]
    }
  }
}

resource "aws_iam_role" "database_monitoring" {
  count = local.aws

  name               = "${var.name}-database-monitoring"
  assume_role_policy = data.aws_iam_policy_document.assumed_by["database"].json
}

resource "aws_iam_role_policy_attachment" "database_monitoring" {
  count = local.aws

  role       = aws_iam_role.database_monitoring[0].name
  policy_arn = "arn:aws:iam::aws:policy/service-role/AmazonRDSEnhancedMonitoringRole"
}

resource "aws_iam_role" "host" {
  count = local.aws

  name               = "${var.name}-host"
  assume_role_policy = data.aws_iam_policy_document.assumed_by["host"].json
}

# Session Manager: the only way in.
resource "aws_iam_role_policy_attachment" "session_manager" {
  count = local.aws

  role       = aws_iam_role.host[0].name
  policy_arn = "arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore"
}

data "aws_iam_policy_document" "host" {
  count = local.aws

  statement {
    sid       = "ListConfiguration"
    actions   = ["s3:ListBucket"]
    resources = [aws_s3_bucket.this["config"].arn]
  }

  statement {
    sid       = "ReadConfiguration"
    actions   = ["s3:GetObject"]
    resources = ["${aws_s3_bucket.this["config"].arn}/*"]
  }

  statement {
    sid     = "LogIntoTheDatabase"
    actions = ["rds-db:connect"]
    resources = [join(":", [
      "arn:aws:rds-db", var.region, data.aws_caller_identity.this.account_id,
      "dbuser", "${aws_db_instance.this[0].resource_id}/${local.database_user}",
    ])]
  }

  statement {
    sid       = "GiveTheContainerOfFilesItsRole"
    actions   = ["sts:AssumeRole"]
    resources = [aws_iam_role.files[0].arn]
  }

  statement {
    sid       = "UseTheKey"
    actions   = ["kms:Decrypt"]
    resources = [aws_kms_key.this.arn]
  }

  statement {
    sid       = "ReadTheBotsToken"
    actions   = ["secretsmanager:GetSecretValue"]
    resources = [aws_secretsmanager_secret.telegram[0].arn]
  }

  statement {
    sid       = "WriteLogs"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents", "logs:DescribeLogStreams"]
    resources = ["${aws_cloudwatch_log_group.this[0].arn}:*"]
  }
}

resource "aws_iam_role_policy" "host" {
  count = local.aws

  name   = "${var.name}-host"
  role   = aws_iam_role.host[0].id
  policy = data.aws_iam_policy_document.host[0].json
}

# What the one container may do that keeps files in buckets.
data "aws_iam_policy_document" "files_assumed_by" {
  count = local.aws

  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "AWS"
      identifiers = [aws_iam_role.host[0].arn]
    }
  }
}

resource "aws_iam_role" "files" {
  count = local.aws

  name               = "${var.name}-files"
  assume_role_policy = data.aws_iam_policy_document.files_assumed_by[0].json
}

data "aws_iam_policy_document" "files" {
  count = local.aws

  statement {
    sid       = "ListBuckets"
    actions   = ["s3:ListBucket"]
    resources = [for name in ["models", "captures"] : aws_s3_bucket.this[name].arn]
  }

  statement {
    sid     = "KeepFiles"
    actions = ["s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload"]
    resources = [
      for name in ["models", "captures"] : "${aws_s3_bucket.this[name].arn}/*"
    ]
  }

  statement {
    sid     = "DeleteOld"
    actions = ["s3:DeleteObject"]
    resources = [
      for name in ["models"] : "${aws_s3_bucket.this[name].arn}/*"
    ]
  }

  statement {
    sid       = "UseTheKey"
    actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
    resources = [aws_kms_key.this.arn]
  }
}

resource "aws_iam_role_policy" "files" {
  count = local.aws

  name   = "${var.name}-files"
  role   = aws_iam_role.files[0].id
  policy = data.aws_iam_policy_document.files[0].json
}

resource "aws_iam_instance_profile" "host" {
  count = local.aws

  name = "${var.name}-host"
  role = aws_iam_role.host[0].name
}

resource "aws_secretsmanager_secret" "telegram" {
  #checkov:skip=CKV2_AWS_57:Only @BotFather changes a bot's token, by hand.
  count = local.aws

  name       = "${var.name}/telegram"
  kms_key_id = aws_kms_key.this.arn
}
