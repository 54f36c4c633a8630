# Host and database are in private subnets, and nothing is reachable from outside: the UIs are opened through SSM's
# port forwarding. The host reaches the feed, Telegram and the registry through a NAT gateway.

data "aws_availability_zones" "this" {
  #checkov:skip=CKV_AWS_394:Only the first two are used, in the order of their names.
  state = "available"
}

resource "aws_vpc" "this" {
  #checkov:skip=CKV2_AWS_11:Flow logs cost more than the host here; security groups let nothing in.
  count = local.aws

  cidr_block           = "10.42.0.0/16"
  enable_dns_support   = true
  enable_dns_hostnames = true
  tags                 = { Name = var.name }
}

resource "aws_default_security_group" "closed" {
  count = local.aws

  vpc_id = aws_vpc.this[0].id
}

resource "aws_subnet" "private" {
  count = 2 * local.aws

  vpc_id            = aws_vpc.this[0].id
  cidr_block        = cidrsubnet(aws_vpc.this[0].cidr_block, 8, count.index)
  availability_zone = data.aws_availability_zones.this.names[count.index]
  tags              = { Name = "${var.name}-private-${count.index}" }
}

resource "aws_subnet" "nat" {
  count = local.aws

  vpc_id            = aws_vpc.this[0].id
  cidr_block        = cidrsubnet(aws_vpc.this[0].cidr_block, 8, 255)
  availability_zone = data.aws_availability_zones.this.names[0]
  tags              = { Name = "${var.name}-nat" }
}

resource "aws_internet_gateway" "this" {
  count = local.aws

  vpc_id = aws_vpc.this[0].id
}

resource "aws_eip" "nat" {
  #checkov:skip=CKV2_AWS_19:It is the NAT gateway's.
  count = local.aws

  domain = "vpc"
}

resource "aws_nat_gateway" "this" {
  count = local.aws

  allocation_id = aws_eip.nat[0].id
  subnet_id     = aws_subnet.nat[0].id
  depends_on    = [aws_internet_gateway.this]
}

resource "aws_route_table" "nat" {
  count = local.aws

  vpc_id = aws_vpc.this[0].id
  route {
    cidr_block = "0.0.0.0/0"
    gateway_id = aws_internet_gateway.this[0].id
  }
}

resource "aws_route_table" "private" {
  count = local.aws

  vpc_id = aws_vpc.this[0].id
  route {
    cidr_block     = "0.0.0.0/0"
    nat_gateway_id = aws_nat_gateway.this[0].id
  }
}

resource "aws_route_table_association" "nat" {
  count = local.aws

  subnet_id      = aws_subnet.nat[0].id
  route_table_id = aws_route_table.nat[0].id
}

resource "aws_route_table_association" "private" {
  count = 2 * local.aws

  subnet_id      = aws_subnet.private[count.index].id
  route_table_id = aws_route_table.private[0].id
}

# Buckets are reached without the NAT gateway, which charges by the gigabyte.
resource "aws_vpc_endpoint" "s3" {
  count = local.aws

  vpc_id          = aws_vpc.this[0].id
  service_name    = "com.amazonaws.${var.region}.s3"
  route_table_ids = [aws_route_table.private[0].id]
}

resource "aws_security_group" "host" {
  count = local.aws

  name        = "${var.name}-host"
  description = "Nothing comes in. Goes out to the feed, Telegram, AWS and the registry over TLS, and to the database."
  vpc_id      = aws_vpc.this[0].id
}

resource "aws_vpc_security_group_egress_rule" "https" {
  count = local.aws

  security_group_id = aws_security_group.host[0].id
  description       = "The feed, Telegram, AWS and the registry: their addresses change"
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
}

resource "aws_vpc_security_group_egress_rule" "database" {
  count = local.aws

  security_group_id            = aws_security_group.host[0].id
  description                  = "The database"
  referenced_security_group_id = aws_security_group.database[0].id
  ip_protocol                  = "tcp"
  from_port                    = 5432
  to_port                      = 5432
}

resource "aws_security_group" "database" {
  count = local.aws

  name        = "${var.name}-database"
  description = "Only the host comes in."
  vpc_id      = aws_vpc.this[0].id
}

resource "aws_vpc_security_group_ingress_rule" "database" {
  count = local.aws

  security_group_id            = aws_security_group.database[0].id
  description                  = "The host"
  referenced_security_group_id = aws_security_group.host[0].id
  ip_protocol                  = "tcp"
  from_port                    = 5432
  to_port                      = 5432
}
