"""Files of projects: reads documents, and what they name. The documents' meaning is in `core/project`."""
