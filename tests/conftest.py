"""What every test run shares: Hypothesis without deadlines, because machines are shared and time is never a verdict."""

from hypothesis import settings

settings.register_profile("wavekv", deadline=None, derandomize=False, print_blob=True)
settings.load_profile("wavekv")
