"""Do margins, sampled classes and many devices train networks that verify faces?"""
