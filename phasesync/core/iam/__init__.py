"""IAM policies as plain values: what they have to allow, and how AWS takes them."""
