"""Property tests run without a deadline: the machine may be busy."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "headrace", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("headrace")
