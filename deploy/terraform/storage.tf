# What is kept outside of the database: models, captures of the feed, and the files that a host starts from. Reports have a
# bucket in LocalStack alone: on one host all services share a folder for them.

locals {
  buckets = toset(concat(["models", "captures"], var.localstack ? ["reports"] : ["config"]))
}

resource "aws_s3_bucket" "this" {
  #checkov:skip=CKV_AWS_144:A second region is for those who need it; everything here can be made again from the database and the feed.
  #checkov:skip=CKV2_AWS_62:Nothing reacts to new objects.
  #checkov:skip=CKV_AWS_18:Access is recorded by CloudTrail, which belongs to the account and not to one project.
  for_each = local.buckets

  bucket        = "${var.name}-${each.key}"
  force_destroy = var.localstack
}

resource "aws_s3_bucket_public_access_block" "this" {
  for_each = local.buckets

  bucket                  = aws_s3_bucket.this[each.key].id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "this" {
  for_each = local.buckets

  bucket = aws_s3_bucket.this[each.key].id
  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_versioning" "this" {
  for_each = local.buckets

  bucket = aws_s3_bucket.this[each.key].id
  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "this" {
  for_each = local.buckets

  bucket = aws_s3_bucket.this[each.key].id
  rule {
    bucket_key_enabled = true
    apply_server_side_encryption_by_default {
      sse_algorithm     = "aws:kms"
      kms_master_key_id = aws_kms_key.this.arn
    }
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "this" {
  for_each = local.buckets

  bucket     = aws_s3_bucket.this[each.key].id
  depends_on = [aws_s3_bucket_versioning.this]

  rule {
    id     = "old-versions"
    status = "Enabled"
    filter {}
    noncurrent_version_expiration {
      noncurrent_days = 90
    }
    abort_incomplete_multipart_upload {
      days_after_initiation = 7
    }
  }
}

data "aws_iam_policy_document" "tls_only" {
  for_each = local.buckets

  statement {
    sid       = "TlsOnly"
    effect    = "Deny"
    actions   = ["s3:*"]
    resources = [aws_s3_bucket.this[each.key].arn, "${aws_s3_bucket.this[each.key].arn}/*"]
    principals {
      type        = "*"
      identifiers = ["*"]
    }
    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }
}

resource "aws_s3_bucket_policy" "this" {
  # LocalStack is spoken to without TLS.
  for_each = var.localstack ? toset([]) : local.buckets

  bucket     = aws_s3_bucket.this[each.key].id
  policy     = data.aws_iam_policy_document.tls_only[each.key].json
  depends_on = [aws_s3_bucket_public_access_block.this]
}

# The files that the host runs the system with, as they are in this checkout.
locals {
  project = "${path.module}/../.."
  host_files = var.localstack ? toset([]) : setunion(
    ["docker-compose.yml", "deploy/terraform/compose.aws.yml", "deploy/docker/make-secrets.sh", "deploy/docker/prometheus.yml"],
    fileset(local.project, "deploy/monitoring/**"), fileset(local.project, "deploy/terraform/host/*"),
  )
}

resource "aws_s3_object" "host" {
  #checkov:skip=CKV_AWS_186:The bucket encrypts with the same key by default.
  for_each = local.host_files

  bucket      = aws_s3_bucket.this["config"].id
  key         = each.key
  source      = "${local.project}/${each.key}"
  source_hash = filemd5("${local.project}/${each.key}")
}
