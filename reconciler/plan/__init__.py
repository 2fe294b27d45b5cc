"""Pure decisions. `decide` makes the shared decision for the cluster; `plan` says what this server does now.

Contract: data in, data out, no effects, nothing remembered between calls; durations come in as `Elapsed`. Only this
package decides.
"""
