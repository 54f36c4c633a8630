# Logs of all containers, and alarms about what the system cannot tell of itself: a dead host, a full database.

resource "aws_cloudwatch_log_group" "this" {
  count = local.aws

  name              = "/${var.name}"
  retention_in_days = 365
  kms_key_id        = aws_kms_key.this.arn
}

resource "aws_sns_topic" "alarms" {
  count = local.aws

  name              = "${var.name}-alarms"
  kms_master_key_id = aws_kms_key.this.id
}

resource "aws_sns_topic_subscription" "email" {
  count = local.aws

  topic_arn = aws_sns_topic.alarms[0].arn
  protocol  = "email"
  endpoint  = var.alarm_email
}

resource "aws_cloudwatch_metric_alarm" "host_down" {
  count = local.aws

  alarm_name          = "${var.name}-host-down"
  alarm_description   = "The host fails its status checks: nobody follows the feed. See docs/operations.md."
  namespace           = "AWS/EC2"
  metric_name         = "StatusCheckFailed"
  dimensions          = { InstanceId = aws_instance.host[0].id }
  statistic           = "Maximum"
  period              = 60
  evaluation_periods  = 3
  threshold           = 0
  comparison_operator = "GreaterThanThreshold"
  treat_missing_data  = "breaching"
  alarm_actions       = [aws_sns_topic.alarms[0].arn]
  ok_actions          = [aws_sns_topic.alarms[0].arn]
}

resource "aws_cloudwatch_metric_alarm" "database" {
  for_each = var.localstack ? {} : {
    storage = { metric = "FreeStorageSpace", threshold = 10 * 1024 * 1024 * 1024, operator = "LessThanThreshold" }
    memory  = { metric = "FreeableMemory", threshold = 256 * 1024 * 1024, operator = "LessThanThreshold" }
    cpu     = { metric = "CPUUtilization", threshold = 90, operator = "GreaterThanThreshold" }
  }

  alarm_name          = "${var.name}-database-${each.key}"
  alarm_description   = "The database runs short of ${each.key}. See docs/operations.md."
  namespace           = "AWS/RDS"
  metric_name         = each.value.metric
  dimensions          = { DBInstanceIdentifier = aws_db_instance.this[0].identifier }
  statistic           = "Average"
  period              = 300
  evaluation_periods  = 3
  threshold           = each.value.threshold
  comparison_operator = each.value.operator
  treat_missing_data  = "breaching"
  alarm_actions       = [aws_sns_topic.alarms[0].arn]
  ok_actions          = [aws_sns_topic.alarms[0].arn]
}
