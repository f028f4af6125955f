from serving.haproxy import on_loopback

TEMPLATE = """frontend prometheus
    bind :9101
frontend http_frontend
    bind 127.0.0.1:8000
listen stats
  bind *:8404
"""


def test_what_binds_every_interface_binds_loopback_instead() -> None:
    binds = [line.split()[1] for line in on_loopback(TEMPLATE).splitlines() if "bind" in line]
    assert ["127.0.0.1:9101", "127.0.0.1:8000", "127.0.0.1:8404"] == binds
