"""Make all artifacts of a study in one process: `make_all.py <project> <config> <study>`."""

import sys
from pathlib import Path

from prunegrid.config.config_files import project_files, read_files
from prunegrid.config.load import validate
from prunegrid.graph.artifact_graph import Graph
from prunegrid.graph.nodes import with_ancestors
from prunegrid.running.job import run_step

root, config, study = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
files = [*project_files(root), config]
graph = Graph(validate(read_files(files), files, Path.cwd()), root)
for node in with_ancestors(graph.study_leaves(study)):
    run_step(node.params())
