"""The manifest of a job's pod: a pure function of the job, the catalog and the settings."""
