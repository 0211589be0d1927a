"""Simulators: a policy against a compiled trace."""

from marconi_core.sim.simulation import Simulation, simulate
from marconi_core.sim.sweep import SweepTables, sweep

__all__ = ["Simulation", "SweepTables", "simulate", "sweep"]
