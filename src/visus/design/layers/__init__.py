"""Layers as plain values: each knows its shapes, parameters, multiply-adds and windows."""
