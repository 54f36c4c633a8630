variable "localstack" {
  description = "True makes only the buckets, in LocalStack: its free edition has no RDS, and there docker compose runs the rest."
  type        = bool
  default     = false
}

variable "localstack_url" {
  description = "Where LocalStack answers."
  type        = string
  default     = "http://127.0.0.1:4566"
}

variable "region" {
  description = "AWS region."
  type        = string
  default     = "eu-central-1"
}

variable "name" {
  description = "Begins the name of everything. Names of buckets are global: choose one that nobody has."
  type        = string
  default     = "txwatch-local"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{2,30}$", var.name))
    error_message = "Small letters, digits and dashes, 3 to 31 of them."
  }
}

variable "image" {
  description = "The image that the release workflow pushed, with its tag."
  type        = string
  default     = "ghcr.io/example/txwatch:v0.1.0"
}

variable "instance_type" {
  description = "4 vCPU and 16 GiB hold all services. Of either architecture: the image is built for both, and the AMI follows."
  type        = string
  default     = "m7g.xlarge"
}

variable "database_class" {
  description = "Size of the database."
  type        = string
  default     = "db.m7g.large"
}

variable "postgres_version" {
  description = "Major version. 18 is what the tests run on; 17 where a region does not offer it yet."
  type        = string
  default     = "18"

  validation {
    condition     = contains(["17", "18"], var.postgres_version)
    error_message = "17 or 18."
  }
}

variable "database_storage_gib" {
  description = "A day of transactions takes about 2.3 GB with its features and scores; RDS adds up to three times as much by itself."
  type        = number
  default     = 250
}

variable "multi_az" {
  description = "A second database in another zone, which takes over by itself; doubles its price."
  type        = bool
  default     = true
}

variable "alarm_email" {
  description = "Gets the alarms of CloudWatch, after a click in a first message. Needed in AWS."
  type        = string
  default     = ""

  validation {
    condition     = var.localstack || can(regex("^[^@ ]+@[^@ ]+$", var.alarm_email))
    error_message = "Somebody must get the alarms: -var alarm_email=name@example.org."
  }
}

variable "telegram_chat_id" {
  description = "Chats that get the alerts, separated by commas. The bot's token goes into the secret <name>/telegram."
  type        = string
  default     = ""
}

locals {
  # What only AWS itself has.
  aws = var.localstack ? 0 : 1
  # By which all of the system logs in. role.sql makes it.
  database_user = "txwatch"
}
