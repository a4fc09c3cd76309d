"""The pages of docs/ that come from code: methods, metrics, settings, the schema of a run folder, llms.txt."""
