"""The dashboards, written down as questions and built into roles/grafana/files/dashboards by `make dashboards`."""
