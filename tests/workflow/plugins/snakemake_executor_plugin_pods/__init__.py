"""Runs each job as Kubernetes would: the executor's command in an empty folder, by a shell.

Its settings are those of Snakemake's Kubernetes executor, but for the installation of plugins.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor
from snakemake_interface_executor_plugins.settings import CommonSettings

common_settings = CommonSettings(
    non_local_exec=True,
    implies_no_shared_fs=True,
    job_deploy_sources=True,
    pass_default_storage_provider_args=True,
    pass_default_resources_args=True,
    pass_envvar_declarations_to_cmd=False,
    auto_deploy_default_storage_provider=False,
    init_seconds_before_status_checks=0,
)
PLUGINS = Path(__file__).parents[1]
# Nothing else reaches a pod, but for the environment that an image brings.
INHERITED = ("HF_HUB_OFFLINE", "OMP_NUM_THREADS", "LANG")


class Executor(RemoteExecutor):
    """A process in an empty folder below $PODS for each job."""

    def run_job(self, job):
        """Start a job; its folder has the command, the output and what it leaves."""
        folder = Path(tempfile.mkdtemp(dir=os.environ["PODS"], prefix=f"{job.name[:40]}-"))
        (folder / "workdir").mkdir()
        command = self.format_job_exec(job)
        (folder / "command").write_text(command)
        image = {name: os.environ[name] for name in INHERITED if name in os.environ}
        image["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        image |= {"HOME": str(folder), "PYTHONPATH": str(PLUGINS)}
        with open(folder / "output", "w") as output:
            process = subprocess.Popen(
                ["/bin/sh", "-c", command],
                cwd=folder / "workdir",
                env=image,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self.report_job_submission(SubmittedJobInfo(job=job, aux={"process": process}))

    async def check_active_jobs(self, active_jobs):
        """Report the jobs that ended, yield the others."""
        for info in active_jobs:
            status = info.aux["process"].poll()
            if status is None:
                yield info
            elif status:
                self.report_job_error(info)
            else:
                self.report_job_success(info)

    def cancel_jobs(self, active_jobs):
        """Stop jobs."""
        for info in active_jobs:
            info.aux["process"].terminate()
