"""What the processes of `vatt_tf.prepare` have in common: imported once, before they are forked."""

from vatt_tf import keras_imports

keras_imports.own_process()
keras_imports.import_lean("tensorflow")  # It brings Keras.
