"""Which Java runs: the one that Spark's own scripts would take."""

import os
import shutil
from collections.abc import Mapping

INSTALL = "sudo apt-get install openjdk-17-jre-headless"


def java_command(environment: Mapping[str, str] = os.environ) -> str:
    """Path of `java`: below JAVA_HOME where that is set, else the first on the PATH.

    Raises FileNotFoundError with the mend when there is none.
    """
    home = environment.get("JAVA_HOME")
    wanted = os.path.join(home, "bin", "java") if home else "java"
    found = shutil.which(wanted, path=environment.get("PATH", ""))
    if found is None:
        unset = " and unset JAVA_HOME" if home else ""
        raise FileNotFoundError(f"Java is missing ({wanted}): {INSTALL}{unset}")
    return found
