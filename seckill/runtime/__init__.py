"""What every service process stands on: settings, logs, metrics, servers, channels, stores."""
