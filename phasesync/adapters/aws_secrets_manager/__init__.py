"""AWS Secrets Manager as a destination."""
